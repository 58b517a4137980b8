"""Fixtures: the paper's model on real prepared samples, for the tests of its parts (tests/conftest.py takes them for all tests)."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from real_hcl import NONE, TINY, WIDTH, B, tensors

from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.keywords.subgraph import CAPS, SubgraphSampler
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.layers.encoder import EncoderShape
from hcl_tf.models import registry
from hcl_tf.models.hcl import HCL
from hcl_tf.models.inputs import Inputs
from hcl_tf.training import assembly


@pytest.fixture(scope="module")
def data(qqp_folder) -> PreparedData:
    return PreparedData(qqp_folder)


@pytest.fixture(scope="module")
def arrays(data) -> SplitArrays:
    return data.arrays("train")


@pytest.fixture(scope="module")
def inputs(data, arrays) -> Inputs:
    shape = EncoderShape(len(data.tokenizer), WIDTH, 1, 2, 24)
    return assembly.inputs_of(data, shape, assembly.output_ids(data, arrays, "train"))


@pytest.fixture(scope="module")
def make(inputs):
    """A function of settings to a system whose every weight shows; equal settings give equal weights."""

    def made(model: str = "hcl", changed: Inputs | None = None, **given) -> HCL:
        keras.utils.set_random_seed(3)
        settings = registry.resolve("tiny", {**TINY, "model": model, **given})
        system = registry.build(settings, changed or inputs)
        random = np.random.default_rng(0)
        for path, variable in assembly.variables(system).items():
            if "text_scale" in path:
                variable.assign(random.uniform(0.5, 2, variable.shape))
            elif "node_features" in path or "text_mean" in path:
                variable.assign(random.normal(0, 1, variable.shape))
            elif "bias" in path or "beta" in path:
                variable.assign_add(random.normal(0, 0.1, variable.shape))
        system.before_inference()
        return system

    return made


@pytest.fixture(scope="module")
def hcl(make) -> HCL:
    return make()


@pytest.fixture(scope="module")
def sampler(data) -> SubgraphSampler:
    """No cap binds."""
    return SubgraphSampler(data.graph, (64, 64), len(data.graph))


@pytest.fixture(scope="module")
def training(data, arrays, sampler) -> dict[str, tf.Tensor]:
    """A batch of real examples with keywords that have neighbours; its sub-graph has no cap."""
    batches = pair_batches(data, arrays, B, 1, sampler)
    rows = np.flatnonzero((arrays.source_nodes >= 0).any(1) & (arrays.target_nodes >= 0).any(1))[:B]
    batch = batches.make(rows, 0, 0)
    assert (batch["impostor_routes"] != NONE).all()
    assert dict(zip(CAPS, batch["graph_caps"], strict=True))["neighbour lists cut"] == 0
    return tensors(batch)


@pytest.fixture(scope="module")
def whole(data, arrays) -> dict[str, tf.Tensor]:
    """The same examples, their nodes those of the whole graph; the last one fills up."""
    rows = np.flatnonzero((arrays.source_nodes >= 0).any(1) & (arrays.target_nodes >= 0).any(1))[:B]
    rows[-1] = -1
    return tensors(pair_batches(data, arrays, B).make(rows, 0, 0))
