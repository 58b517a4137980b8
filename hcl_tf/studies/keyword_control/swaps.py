"""Keyword control (the paper's Table 4): decodes the same inputs under their own keywords, under other texts' keywords, and under none.

A swap puts one keyword in place of all of an input's own. It is a node of the keyword graph, a keyword of another source of the split, and
stands in no form in the input. The draw depends on (seed, number of the input in its split), so that an input gets the same keywords
whichever inputs are chosen beside it.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from hcl_tf.data.batching.sample_rows import sample_rows
from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.keywords.graph import UNKNOWN
from hcl_tf.data.store.tfrecords import Record
from hcl_tf.data.tokenizers import normalization
from hcl_tf.decoding import sources
from hcl_tf.errors import UserError
from hcl_tf.evaluation.dependence import units_of_records
from hcl_tf.evaluation.evaluated_run import label_of
from hcl_tf.evaluation.scoring import decode, head_of
from hcl_tf.studies.keyword_control import page
from hcl_tf.studies.keyword_control.measures import CONDITIONS, NONE, OWN, SWAPPED, Measured, faithfulness, inclusion, prior_kl, prior_shift
from hcl_tf.training.trained_run import BEST, TrainedRun

INPUTS = 200  # how many are chosen where nothing is asked for


@dataclass(frozen=True)
class KeywordControlRequest:
    """The arguments of a keyword-control experiment.

    Attributes:
      inputs: how many, evenly spread over the split; None: `INPUTS`. ids: examples that are taken instead.
      swaps: keywords swapped in for each input, one after the other. seed: of their draw.
    """

    run_dir: Path
    data_dir: Path | None = None
    inputs: int | None = None
    swaps: int = 3
    seed: int = 1
    split: str = "test"
    ids: tuple[str, ...] = ()
    checkpoint: str = BEST[0]

    @property
    def label(self) -> str:
        """The middle of the results' names. It tells inputs that were chosen by hand from those that nobody chose."""
        return label_of(self.split, self.checkpoint, "chosen" if self.ids else "")


@dataclass(frozen=True)
class Swap:
    """A keyword of another text: its node and name, and the id of the example from whose source it comes."""

    node: int
    name: str
    origin: str


def keyword_control(request: KeywordControlRequest, trained: TrainedRun | None = None) -> dict:
    """Writes keywords.<label>.md and keywords.<label>.json (last) into the run's folder, prints the measures, and returns the data.

    Args:
      trained: the run at the checkpoint that is asked for, where it is open already.

    Raises:
      UserError: the run is not finished, uses no keywords or can't be read, the data is not the run's, or an id is not in the split.
    """
    if request.ids and request.inputs is not None:
        raise UserError("--ids and --inputs contradict each other: --ids names all inputs")
    trained = trained or TrainedRun(request.run_dir, request.checkpoint, request.data_dir, finished=True)
    trained.run.check_writable()
    run, found = trained.run, measure(trained, request)
    run.write_text(f"keywords.{request.label}.md", page.page(found))
    run.write_json(f"keywords.{request.label}.json", found)
    print("\n".join(page.lines(found)), flush=True)
    print(f"wrote keywords.{request.label}.json and keywords.{request.label}.md to {run.path}", flush=True)
    return found


def measure(trained: TrainedRun, request: KeywordControlRequest) -> dict:
    """Runs a keyword-control experiment.

    Returns:
      All data, ready for JSON: what was measured (as in scores.<split>.json, with `swaps` and `draw_seed`); `figures`, which are those of
      `measures.faithfulness`; and `rows`, one for each input, with its `outputs` under each condition (Table 4).

    Raises:
      UserError: the system uses no keywords, an id is not in the split, or the split has too few other keywords.
    """
    data, settings = trained.data, trained.settings
    if not trained.system.uses_keywords:
        what = f"{settings.model} {settings.variant}".rstrip()
        raise UserError(f"{trained.run.path}: {what} uses no keywords, so there is nothing to control; give a run of a system that does")
    records = list(data.records(request.split))
    chosen = choose(records, request)
    forms = keyword_forms(record for split in dict.fromkeys(("train", request.split)) for record in data.records(split))
    language = data.manifest["task"]["language"]
    drawn = [draw_swaps(records, row, forms, language, request.swaps, request.seed) for row in chosen]
    inputs, swaps = [records[row] for row in chosen], [list(draw) for draw in zip(*drawn, strict=True)]  # --> swaps: [k][n]

    asked = _sources(inputs, swaps)
    decoded = decode(trained, [one for draws in asked.values() for draw in draws for one in draw])
    outputs = _by_condition(list(map(normalization.of(data.manifest), decoded)), asked)
    measured = Measured(
        language, [record.source.normal for record in inputs],
        [[forms[keyword.text] for keyword in record.source.keywords] for record in inputs],
        [[forms[swap.name] for swap in draw] for draw in swaps],
        outputs, _priors(trained, asked), units_of_records(inputs, data.manifest),
    )  # fmt: skip
    head = head_of(trained.run.config, settings, trained.checkpoint, trained.step, data, request.split, len(inputs))
    return (
        head
        | {"swaps": request.swaps, "draw_seed": request.seed}
        | {"chosen_by_id": bool(request.ids), "figures": faithfulness(measured), "rows": _rows(inputs, swaps, measured)}
    )


def choose(records: Sequence[Record], request: KeywordControlRequest) -> list[int]:
    """Returns the numbers of the inputs in their split. Raises `UserError` with the first id that is not there."""
    if request.ids:
        numbers = {record.id: row for row, record in enumerate(records)}
        for wanted in request.ids:
            if wanted not in numbers:
                raise UserError(f"--ids={wanted}: no example of the {request.split} split; ids stand in predictions.{request.split}.jsonl")
        return [numbers[wanted] for wanted in dict.fromkeys(request.ids)]
    count = INPUTS if request.inputs is None else request.inputs
    if count > len(records):
        print(f"the {request.split} split has {len(records):,} examples, fewer than --inputs={count:,}: all are taken", flush=True)
    return sample_rows(len(records), count).tolist()


def keyword_forms(records: Iterable[Record]) -> dict[str, tuple[str, ...]]:
    """Finds the forms of each keyword: itself, and the words of the records' texts that were tagged as it.

    So "questions" is found for the node "question" without a second tagger.
    """
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for record in records:
        for text in (getattr(record, role) for role in ROLES):
            for keyword in text.keywords:
                found[keyword.text].update({keyword.text: None, text.normal[keyword.start : keyword.end].lower(): None})
    return {name: tuple(forms) for name, forms in found.items()}


def draw_swaps(records: Sequence[Record], row: int, forms: dict[str, tuple[str, ...]], language: str, swaps: int, seed: int) -> list[Swap]:
    """Draws different keywords for the input number `row`: another source first, and then one of its keywords.

    Args:
      records: of the split. forms: of `keyword_forms`. swaps: how many keywords.

    Raises:
      UserError: there are not enough.
    """
    own = records[row].source
    random = np.random.default_rng([seed, row])
    taken: dict[int, Swap] = {}
    for other in random.permutation(len(records)):
        source = records[other].source
        known = [(node, word.text) for node, word in zip(source.nodes, source.keywords, strict=True) if node != UNKNOWN]
        if not known:
            continue
        node, name = known[random.integers(len(known))]
        if node in taken or node in own.nodes or inclusion([own.normal], [[forms[name]]], language)[0]:
            continue
        taken[node] = Swap(node, name, records[other].id)
        if len(taken) == swaps:
            return list(taken.values())
    raise UserError(
        f"--swaps={swaps}: other texts of the split gave only {len(taken)} keywords for example {records[row].id} that the graph knows and "
        "that it does not contain; give fewer"
    )


def _sources(inputs: Sequence[Record], swaps: Sequence[Sequence[Swap]]) -> dict[str, list[list[sources.Source]]]:
    """Makes the sources that are decoded under each condition, [draws][n]."""
    own = [sources.from_record(record.source) for record in inputs]
    swapped = [
        [dataclasses.replace(one, nodes=(swap.node,), keywords=(swap.name,)) for one, swap in zip(own, draw, strict=True)] for draw in swaps
    ]
    without = [dataclasses.replace(one, nodes=(), keywords=()) for one in own]
    return {OWN: [own], SWAPPED: swapped, NONE: [without]}


def _by_condition(outputs: Sequence[str], asked: dict[str, list[list[sources.Source]]]) -> dict[str, list[list[str]]]:
    """Divides outputs, which are in the order of the sources, as these are divided."""
    remaining = iter(outputs)
    return {condition: [[next(remaining) for _ in draw] for draw in draws] for condition, draws in asked.items()}


def _priors(trained: TrainedRun, asked: dict[str, list[list[sources.Source]]]) -> dict[str, tuple[np.ndarray, np.ndarray]] | None:
    """Computes the priors that generation uses under each condition: mean and standard deviation, [draws, n, Z] each.

    Returns None for a system without a latent variable.
    """

    def run(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor] | None:
        prior = trained.system.source_prior(batch)
        return None if prior is None else (prior.mean(), prior.stddev())

    compiled, parts = tf.function(run, autograph=False), []
    for batch in trained.source_batches().of([one for draws in asked.values() for draw in draws for one in draw]):
        if (prior := compiled(batch)) is None:
            return None
        real = batch["example_mask"].numpy() > 0
        parts.append([part.numpy()[real] for part in prior])
    ends = np.cumsum([len(draws) * len(draws[0]) for draws in asked.values()])[:-1]
    by_part = [np.split(np.concatenate(part), ends) for part in zip(*parts, strict=True)]  # means, standard deviations; by condition
    shapes = {condition: (len(draws), len(draws[0]), -1) for condition, draws in asked.items()}
    return {
        condition: (mean.reshape(shapes[condition]), stddev.reshape(shapes[condition]))
        for condition, mean, stddev in zip(asked, *by_part, strict=True)
    }


def _rows(inputs: Sequence[Record], swaps: Sequence[Sequence[Swap]], m: Measured) -> list[dict]:
    """Makes the rows of Table 4: each input with its keywords and output under each condition.

    `included` is the share of these keywords that the output contains.
    """
    rows = [{"id": r.id, "source": r.source.raw, "reference": r.target.raw, "outputs": []} for r in inputs]
    for condition in CONDITIONS:
        for draw, texts in enumerate(m.outputs[condition]):
            names = {
                OWN: [[keyword.text for keyword in record.source.keywords] for record in inputs],
                SWAPPED: [[swap.name] for swap in swaps[draw]],
                NONE: [[] for _ in inputs],
            }[condition]
            forms = {OWN: m.own, SWAPPED: [[forms] for forms in m.swaps[draw]], NONE: [[] for _ in inputs]}[condition]
            shares = inclusion(texts, forms, m.language)
            for place, row in enumerate(rows):
                found = {"condition": condition, "keywords": names[place], "output": texts[place]}
                found["included"] = None if np.isnan(shares[place]) else float(shares[place])
                if condition == SWAPPED:
                    found["from"] = swaps[draw][place].origin
                if m.priors and condition != OWN:
                    found |= _movement(m.priors, condition, draw, place)
                row["outputs"].append(found)
    return rows


def _movement(priors: dict[str, tuple[np.ndarray, np.ndarray]], condition: str, draw: int, place: int) -> dict[str, float]:
    """Measures how far the prior of one input moved."""
    moved, own = ([part[number, place] for part in priors[name]] for name, number in ((condition, draw), (OWN, 0)))
    return {"prior_shift": float(prior_shift(moved[0], *own)), "prior_kl": float(prior_kl(tuple(moved), tuple(own)))}
