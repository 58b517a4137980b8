"""Contrastive search over real systems: against teacher forcing and greedy search, and through the commands."""

import json
import signal
import sys
from functools import cache as memoised

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import flagsaver
from conftest import entry_point
from test_beam_search import END, START
from test_contrastive_search import log_softmax, over_lists

from hcl_tf import cli
from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.decoding.contrastive_search import ContrastiveSettings
from hcl_tf.decoding.generator import SOURCE_COLUMNS, Generator
from hcl_tf.errors import UserError
from hcl_tf.layers.encoder import EncoderShape
from hcl_tf.models import registry
from hcl_tf.models.encoder_decoder import EncoderDecoder
from hcl_tf.models.hcl import HCL
from hcl_tf.serving.demo_page import Asked, answer, page
from hcl_tf.serving.export import describe
from hcl_tf.serving.keyword_edits import EditableRun
from hcl_tf.training import assembly
from hcl_tf.training.trained_run import TrainedRun

SYSTEMS = [
    ("transformer", {}), pytest.param("bert_gen", {"copy": True}, marks=pytest.mark.slow),
    pytest.param("hcl", {"latent_to": "both", "copy": True}, marks=pytest.mark.slow),
]  # fmt: skip
CONTRASTIVE = {"search": "contrastive", "contrastive_k": 4, "contrastive_alpha": 0.6, "minimum_length": 2, "maximum_length": 6}
ROWS = 3


@memoised
def read(folder) -> tuple[PreparedData, SplitArrays]:
    data = PreparedData(folder)
    return data, data.arrays("train")


def made(folder, name: str, **given) -> EncoderDecoder:
    """Small, and with every weight moved, so that each shows."""
    data, arrays = read(folder)
    kept = assembly.output_ids(data, arrays, "train")
    shape, random = EncoderShape(len(data.tokenizer), 16, 1, 2, 24), np.random.default_rng(0)
    system = registry.build(registry.resolve("tiny", {"model": name, "decoder_layers": 1, **given}), assembly.inputs_of(data, shape, kept))
    for variable in system.trainable_variables:
        variable.assign_add(random.normal(0, 0.2, variable.shape))
    system.before_inference()
    return system


def sources(folder) -> dict[str, tf.Tensor]:
    batch = next(iter(pair_batches(*read(folder), ROWS).dataset(0)))
    return {name: batch[name] for name in SOURCE_COLUMNS}


def teacher(system: EncoderDecoder, batch):
    """A function of columns [B, T + 1], the start's first, that gives the decoder's states [B, T + 1, D] all at once, and their scores."""
    _, fixed = system.start(batch, 1, None)
    texts, keywords, prior = system.read_sources(batch) if isinstance(system, HCL) else (system.encode(batch, None), None, None)

    def decode(pieces: tf.Tensor) -> tf.Tensor:
        if isinstance(system, HCL):
            return system.decode({"target_ids": pieces}, texts, keywords, prior.mean(), None)
        return system.teach({"target_ids": pieces}, texts["states"], texts["mask"], None)

    @tf.function
    def teach(columns):
        pieces = [system.copied_pieces(each, fixed) if system.copies else system.tokens.ids(each) for each in tf.unstack(columns, axis=1)]
        states = decode(tf.stack([*pieces, pieces[0]], 1))
        return states, tf.stack([system.step_scores(each, fixed) for each in tf.unstack(states, axis=1)], 1)

    return teach


def by_teacher_forcing(system: EncoderDecoder, batch) -> list[tuple[float, tuple[int, ...]]]:
    """Contrastive search as it is defined, whole texts read anew for every candidate; tokens are columns of the scores."""
    s, teach = system.settings, teacher(system, batch)
    column = {int(i): c for c, i in enumerate(system.inputs_.output_ids)}
    start, end = column[system.inputs_.cls_id], column[system.inputs_.sep_id]
    swapped = {start: START, END: end, end: END, START: start}  # `over_lists` calls the end 1
    options = ContrastiveSettings(s.contrastive_k, s.minimum_length, s.maximum_length, s.length_penalty, s.no_repeat_ngram, 0.6)

    @memoised
    def read(row: int, tokens: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        columns = np.full([ROWS, s.maximum_length + 1], start, np.int32)  # no state sees what follows it
        columns[row, 1 : len(tokens) + 1] = [swapped.get(token, token) for token in tokens]
        state, scores = (part[row, len(tokens)].numpy().astype(np.float64) for part in teach(columns))
        return state, log_softmax(scores[[swapped.get(token, token) for token in range(len(scores))]])

    found = [
        over_lists(lambda tokens, row=row: read(row, tokens)[0], lambda tokens, row=row: read(row, tokens)[1], options)
        for row in range(ROWS)
    ]
    return [(score, tuple(swapped.get(token, token) for token in tokens)) for score, tokens in found]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "more"), SYSTEMS, ids=str)
def test_a_system_finds_what_teacher_forcing_gives(qqp_folder, name, more):
    """So cached steps give every candidate the state that it has in training, copied pieces included."""
    system, batch = made(qqp_folder, name, **CONTRASTIVE, **more), sources(qqp_folder)
    plain = Generator(system, None)
    ids, scores = plain.ids(batch)
    assert ids.shape == (ROWS, system.settings.hypotheses, 6) == (ROWS, 1, 6)
    wanted = by_teacher_forcing(system, batch)
    np.testing.assert_allclose(scores[:, 0], [score for score, _ in wanted], rtol=1e-4)
    pad = system.inputs_.pad_id
    for row, (_, tokens) in enumerate(wanted):
        filled = tf.constant([[[*tokens, *[0] * (6 - len(tokens))]]] * ROWS)
        pieces = system.output_ids(filled, batch)[row, 0, : len(tokens)].numpy()
        np.testing.assert_array_equal(ids[row, 0], [*pieces, *[pad] * (6 - len(tokens))])
    assert len({tuple(text) for text in ids[:, 0].tolist()}) > 1

    compiled = Generator(system, None, compiled=True)
    again = compiled.ids(batch)
    np.testing.assert_array_equal(again[0], ids)
    np.testing.assert_allclose(again[1], scores, rtol=1e-4)
    for generator in (plain, compiled):
        generator.ids({name: tf.reverse(tensor, [0]) for name, tensor in batch.items()})
        assert generator._run.experimental_get_tracing_count() == 1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "more"), SYSTEMS[:2], ids=str)
def test_alpha_0_is_a_systems_greedy_search(qqp_folder, name, more):
    system, batch = made(qqp_folder, name, **CONTRASTIVE, **more), sources(qqp_folder)
    found = []
    for changed in ({"contrastive_alpha": 0.0}, {"search": "beam", "beams": 1}):
        system.settings = registry.resolve("tiny", {**system.settings.to_dict(), **changed})
        found.append(Generator(system, None).ids(batch))
    (ids, scores), (wanted, totals) = found
    np.testing.assert_array_equal(ids, wanted)
    np.testing.assert_allclose(scores, totals, rtol=1e-5)


@pytest.mark.slow
def test_a_system_takes_batches_of_any_size(qqp_folder):
    """As in an export, of a system that copies."""
    system, batch = made(qqp_folder, "bert_gen", **CONTRASTIVE, copy=True), sources(qqp_folder)
    specs = {name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype) for name, tensor in batch.items()}
    run = tf.function(system.generate, input_signature=[specs], autograph=False)
    whole, part = run(batch), run({name: tensor[1:3] for name, tensor in batch.items()})
    np.testing.assert_array_equal(whole[0], Generator(system, None).ids(batch)[0])
    np.testing.assert_array_equal(part[0], whole[0][1:3])


@pytest.mark.parametrize("name", [name for name in registry.SYSTEMS if name not in registry.systems_with("search")])
def test_a_system_without_such_states_refuses_the_setting(name):
    with pytest.raises(UserError, match=f"^--search: --model={name} does not use it; hcl, "):
        registry.resolve("tiny", {"model": name, "search": "contrastive"})


def test_a_stored_run_without_the_settings_searched_with_beams():
    recorded = registry.resolve("tiny", {"model": "bert_gen", **CONTRASTIVE}).to_dict()
    before = registry.read({name: value for name, value in recorded.items() if not name.startswith(("search", "contrastive"))})
    assert (before.search, before.contrastive_k, before.contrastive_alpha, before.hypotheses) == ("beam", 5, 0.6, before.beams)


@pytest.mark.slow
def test_commands_train_and_evaluate_with_it_and_its_one_output_is_shown_and_described(qqp_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)  # it would stay on for other tests
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def command(name: str, *arguments: str) -> None:
        program = entry_point(name)
        monkeypatch.setattr(sys, "argv", [f"hcl_tf.{name}", f"--data_dir={qqp_folder}", f"--run_dir={tmp_path / 'run'}", *arguments])
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
            cli.run(program.main)
        assert not stopped.value.code

    small = ("--encoder=random:1x32", "--decoder_layers=1", "--batch_size=8", "--max_steps=2", "--maximum_length=6", "--minimum_length=2")
    try:
        command("train", "--task=qqp", "--model=bert_gen", "--search=contrastive", "--contrastive_k=3", *small)
    finally:
        for number, handler in handlers.items():  # training takes them over
            signal.signal(number, handler)
    command("evaluate", "--limit=5")
    config = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))
    assert (config["settings"]["search"], config["settings"]["contrastive_k"]) == ("contrastive", 3)
    scores = json.loads((tmp_path / "run" / "scores.test.first5.json").read_text(encoding="utf-8"))
    assert scores["examples"] == 5
    trained = TrainedRun(tmp_path / "run")
    assert describe(trained, ())["outputs"]["ids"].startswith("[B, 1, 6] int32")
    run = EditableRun(trained, "run")
    html = page([run], answer([run], Asked("How can I lose weight?")))
    assert html.count("<summary>score ") == 1
    assert "more from beam search" not in html
