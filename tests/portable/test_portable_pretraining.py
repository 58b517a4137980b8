"""A pretraining on a machine without TensorFlow: the same losses, and the same weights in the same folder."""

import json

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from conftest import entry_point
from safetensors.numpy import load_file

from hcl_tf.errors import UserError
from hcl_tf.portable import bundle, pretraining, starting_weights
from hcl_tf.portable.loop import train
from hcl_tf.pretraining import launch
from hcl_tf.pretraining import settings as pretraining_settings

GIVEN = {
    "layers": 1, "width": 16, "decoder_layers": 1, "row_length": 64, "batch_size": 16, "max_steps": 4, "validate_every": 2, "log_every": 2,
    "warmup_steps": 1,
}  # fmt: skip


@pytest.fixture(scope="module", params=["mlm", *(pytest.param(name, marks=pytest.mark.slow) for name in ("span", "causal"))])
def made(request, qqp_folder, tmp_path_factory):
    """The bundle's part, the results, and the folder that TensorFlow makes of the same settings."""
    folder, objective = tmp_path_factory.mktemp(request.param), request.param
    given = GIVEN | {"objective": objective}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(starting_weights, "describe", lambda *_: None)  # all weights are stored, so that both begin with the same
        patch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)
        settings = pretraining_settings.resolve(given | {"jit_compile": "true"})
        pretraining.export([qqp_folder], [], bundle.Bundle(folder / "bundle", objective), settings)
        part = bundle.read(folder / "bundle", objective)
        train(part, folder / "results" / objective)
        plain = pretraining_settings.resolve(given | {"jit_compile": "false"})
        launch.launch([qqp_folder], [], folder / "plain", folder / "run", plain, ["test"])
    return part, folder


@pytest.mark.slow
def test_losses_and_weights_are_tensorflows(made):
    part, folder = made
    pretraining.take_back(part, folder / "results" / part.system, folder / "back")
    ours, plain = (json.loads((folder / name / "pretraining.json").read_text()) for name in ("back", "plain"))
    for name in ("texts", "pieces", "rows", "step", "pieces_seen", "parameters", "body", "padding", "data", "excluded"):
        assert ours[name] == plain[name], name
    assert ours["losses"] == {name: pytest.approx(value, rel=2e-4) for name, value in plain["losses"].items()}
    weights, others = (load_file(folder / name / "model.safetensors") for name in ("back", "plain"))
    assert weights.keys() == others.keys()
    for name, values in weights.items():
        np.testing.assert_allclose(values, others[name], atol=3e-4, err_msg=name)
    for name in ("config.json", "vocab.txt", "tokenizer_config.json"):
        assert (folder / "back" / name).read_bytes() == (folder / "plain" / name).read_bytes()


@pytest.mark.slow
def test_damaged_or_foreign_results_leave_no_folder(made, tmp_path):
    part, folder = made
    results = tmp_path / "results"
    results.mkdir()
    for path in (folder / "results" / part.system).iterdir():
        (results / path.name).write_bytes(path.read_bytes())
    (results / "weights.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError, match=r"weights\.safetensors: can't be read"):
        pretraining.take_back(part, results, tmp_path / "out")
    (results / "done.json").write_text("{}")
    with pytest.raises(UserError, match=r"done\.json"):
        pretraining.take_back(part, results, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_command_wants_weights_for_a_pretraining(made):
    part, folder = made
    program = entry_point("portable.take_back")
    arguments = ["take_back", f"--bundle={folder / 'bundle'}", f"--results={folder / 'results' / part.system}"]
    for more, said in (([], "are needed"), (["--run_dir=r"], "is a pretraining: give --weights alone")):
        flags.FLAGS.unparse_flags()
        flags.FLAGS([*arguments, *more])
        with pytest.raises(UserError, match=said):
            program.main()
