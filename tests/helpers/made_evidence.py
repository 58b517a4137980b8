"""A plan of evidence over three tasks, and rows of it that never were, whose differences a test chooses."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from made_results import made

from hcl_tf.evaluation import links, rows
from hcl_tf.evaluation.rows import Result
from hcl_tf.reporting import plan as plans
from hcl_tf.reporting.plan import ExperimentPlan

N = 120  # sentences
FEW, MANY = (21, 22, 23), (21, 22, 23, 24, 25)
SYSTEMS = {"hcl": "hcl", "bert_cvae": "bert_cvae", "claps": "claps", "bert_gen": "bert_gen", "hcl_without_graph": "hcl"}
TEXT = """
title: The evidence
written: 2026-11-29
hours: 3
primary: {stage: questions, row: hcl, beside: [bert_cvae], margins: {BLEU-2: 0.5, NLL of y+: 0.5}, open_channel: true}
secondary:
  baselines: {stage: questions, row: hcl, beside: [claps, bert_gen], margins: {BLEU-2: 0.5}}
  stories: {stage: stories, row: hcl, beside: [bert_cvae], margins: {BLEU-2: 0.5}}
variances: {of_seeds: 0.01, of_sentences: 1, of_rest: 1, from: "assumed, not measured"}
limits: [The chat is not the paper's.]
stages:
  questions:
    about: Questions.
    task: qqp
    preset: paper
    data: tfrecords/qqp
    raw_file: r
    at_least: 100
    hours: 2
    base: bert_cvae
    rows:
      hcl: {asks: Ours, seeds: [21, 22, 23, 24, 25], trials: 2}
      bert_cvae: {asks: The base, seeds: [21, 22, 23, 24, 25], trials: 2}
      claps: {asks: T5-CLAPS, seeds: [21, 22, 23, 24, 25]}
      bert_gen: {asks: No z, seeds: [21, 22, 23, 24, 25]}
      hcl_without_graph: {asks: Table 2, seeds: [21, 22, 23]}
  stories:
    about: Stories.
    task: rocstories
    preset: paper
    data: tfrecords/rocstories
    base: bert_cvae
    rows: {hcl: {asks: Ours, seeds: [21, 22, 23]}, bert_cvae: {asks: The base, seeds: [21, 22, 23]}}
  chat:
    about: Chat.
    task: douban
    preset: paper
    data: tfrecords/douban
    base: bert_cvae
    rows: {hcl: {asks: Ours, seeds: [21]}, bert_cvae: {asks: The base, seeds: [21]}}
"""


def plan(folder: Path, text: str = TEXT) -> ExperimentPlan:
    """The plan with its flag files, written to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.yaml").write_text(text)
    for stage in ("questions", "stories", "chat"):
        (folder / stage).mkdir(exist_ok=True)
        for row in SYSTEMS if stage == "questions" else ("hcl", "bert_cvae"):
            model = SYSTEMS[row]
            ablate = "\n--ablate=graph" if row.endswith("_graph") else ""
            (folder / stage / f"{row}.flags").write_text(f"--model={model}{ablate}\n")
    return plans.read(folder / "plan.yaml")


def result(row: str, seed: int, bleu: float = 30.0, nll: float = 40.0, task: str = "qqp", open_links: bool = True, **changes) -> Result:
    """A row of which each sentence scores around these; sentences of one number are alike in all rows, seeds differ by a little."""
    of_sentence = np.random.default_rng(0).normal(0, 4, N)
    noise = np.random.default_rng([seed, len(row)]).normal(0, 0.5, (2, N))
    found = made(row, seed, task=task, seconds=600, examples=N, of=N)
    record = found.record
    values = np.clip(100 * (bleu + of_sentence + noise[0]), 0, None).round().astype(int).tolist()
    scores = {name: entry | {"value": float(np.mean(values)) / 100} for name, entry in record["scores"].items()}
    scores |= {"distinct-outputs": scores["distinct-outputs"] | {"value": 0.9}}
    figures = record["figures"] | {"per_example": {"nll": (nll + of_sentence + noise[1]).tolist()}}
    if row.startswith(("hcl", "bert_cvae")):
        entry = {"value": 1.0 if open_links else 0.0, "low": 0.5 if open_links else -0.1, "high": 1.5}
        names = [name for name, _ in links.FIGURES.values()]
        figures |= {"latent_size": 64, "differences": dict.fromkeys([*names, "h_negative_minus_target"], entry)}
    sample = record["samples"][0]
    samples = [sample | {"id": str(n), "source": f"{sample['source']} {n}", "prediction": f"{row} says {n}"} for n in range(20)]
    changed = {"scores": scores, "figures": figures, "per_sentence": dict.fromkeys(record["per_sentence"], values), "samples": samples}
    return Result(found.origin, record | changed | changes)


def keep(reports: Path, made_plan: ExperimentPlan, stage: str, *results: Result) -> None:
    """Keeps rows of a stage."""
    for one in results:
        rows.keep(rows.place_of(reports / made_plan.name / stage, one.row, one.seed), one)


def questions(bleu: Mapping[str, float], seeds: tuple[int, ...] = MANY, **changes) -> list[Result]:
    """Rows of questions with these scores, of each of these seeds."""
    return [result(row, seed, value, **changes) for row, value in bleu.items() for seed in seeds]
