"""Copying the source: what is copied, and a run that no step was taken for."""

import json

import numpy as np
import tensorflow as tf
from system_toolkit import Kit
from system_toolkit.kit import view_of

from hcl_tf.evaluation.scoring import EvaluationRequest, evaluate
from hcl_tf.models.inputs import dummy_batch
from hcl_tf.training import launch


def test_the_end_of_the_source_in_every_beam(qqp_folder):
    system = Kit(qqp_folder, "copy", maximum_length=3, minimum_length=1, beams=2).new()
    i = system.inputs_
    assert not system.variables
    kept = [int(piece) for piece in i.output_ids if piece not in (i.pad_id, i.cls_id, i.sep_id)]
    lost = next(piece for piece in range(i.vocabulary) if piece not in set(i.output_ids.tolist()))
    a, b, d = kept[-3:]
    batch = {name: tensor.numpy() for name, tensor in dummy_batch(i).items()}
    batch["source_ids"][0, :7] = [i.cls_id, a, b, lost, i.unknown_id, d, i.sep_id]
    batch["source_ids"][1, :4] = [i.cls_id, d, i.sep_id, i.pad_id]
    ids, scores = system.generate({name: tf.constant(column) for name, column in batch.items()})
    np.testing.assert_array_equal(ids, [[[b, i.vocabulary + 4, d]] * 2, [[d, i.pad_id, i.pad_id]] * 2])
    np.testing.assert_array_equal(scores, np.zeros((2, 2)))


def test_its_run_is_finished_at_once_and_scored_like_any_other(qqp_folder, tmp_path):
    path = str(tmp_path / "run")
    assert launch.launch("qqp", qqp_folder, path, "paper", {"model": "copy"}, ["hcl_tf.train"]) == launch.UNTRAINED
    assert launch.launch("qqp", qqp_folder, path, "paper", {"model": "copy"}, ["hcl_tf.train"]) == launch.UNTRAINED, "once more"
    scores = evaluate(EvaluationRequest(tmp_path / "run", data_dir=qqp_folder))
    assert scores["source-BLEU-4"]["value"] > 100
    data = view_of(qqp_folder).data
    rows = [json.loads(line) for line in (tmp_path / "run/predictions.test.jsonl").read_text().splitlines()]
    for row, record in zip(rows, data.records("test"), strict=True):
        assert row["prediction"] == data.tokenizer.decode(record.source.ids)
