"""Exports a pretraining as compiled programs, and turns what was trained with them into a folder of weights."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from hcl_tf.errors import UserError
from hcl_tf.layers.encoder import EncoderShape
from hcl_tf.portable import packed_rows
from hcl_tf.portable.bundle import WEIGHTS, Bundle
from hcl_tf.portable.compiling import Parts, starting_points, write
from hcl_tf.portable.results import Results
from hcl_tf.pretraining import launch, publication
from hcl_tf.pretraining import settings as pretraining_settings
from hcl_tf.pretraining.corpus import collect
from hcl_tf.pretraining.settings import PretrainingSettings
from hcl_tf.training import assembly, checkpoints


def export(folders: list[Path], exclude: list[Path], bundle: Bundle, settings: PretrainingSettings) -> None:
    """Exports a pretraining as a system's part of a bundle.

    Args:
      folders, exclude: as of `pretraining.corpus.collect`. settings: with `jit_compile` "true".

    Raises:
      UserError: the texts can't be had, or the bundle has the system already or can't be written.
    """
    bundle.check_new()
    corpus = collect(folders, exclude)
    with starting_points() as starts, TemporaryDirectory() as nowhere:
        loop = launch.assemble(corpus, settings, launch.columns_of(corpus, settings), None, Path(nowhere))
    inputs = loop.system.inputs_
    description = {
        "config": launch.recorded_of(corpus, settings) | {"record": launch.described(loop, corpus)},
        "batches": packed_rows.store(bundle, settings.objective, loop.batches, loop.validation.batches),
        "inputs": {
            "shape": inputs.shape.to_dict(), "library": inputs.library,
            "vocabulary": bundle.store(np.frombuffer(corpus.vocabulary.read_bytes(), np.uint8)),
        },
    }  # fmt: skip
    parts = Parts(loop)
    write(bundle, parts, parts.training(), starts, False, description)


def take_back(bundle: Bundle, results: Path, out: Path) -> None:
    """Writes the folder of weights, or on any failure none.

    Raises:
      UserError: results are missing, damaged, or of another bundle, or the folder holds something else.
    """
    about, there = bundle.description, Results(results, bundle)
    config, inputs = about["config"], about["inputs"]
    settings = pretraining_settings.read(config["settings"])
    if launch.check_place(out, settings):
        raise UserError(f"--weights={out}: these weights are there already; choose another folder, or remove it")
    pieces = packed_rows.batches(bundle, about["batches"], "train").columns[0].pieces
    system = launch.body(settings, pieces, EncoderShape.from_dict(inputs["shape"]), inputs["library"])
    variables = assembly.variables(system)
    try:
        arrays = load((results / WEIGHTS).read_bytes())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{results / WEIGHTS}: can't be read ({error}); bring the results back again") from error
    checkpoints.assign(variables, {name: arrays[name] for name in arrays if name in variables}, results / WEIGHTS)
    (losses,) = (line for line in there.metrics if line["kind"] == "validation" and line["step"] == there.done["best_step"])
    rate = there.speed[-1]["examples_per_second"] if there.speed else 0.0
    record = {name: value for name, value in config.items() if name != "record"} | config["record"]
    record = launch.completed(record, out.name, losses, rate, there.environment(bundle))
    publication.publish(system, bundle.array(inputs["vocabulary"]).tobytes(), record, out)
    print(publication.card(record), f"\nwrote {out}", sep="", flush=True)
