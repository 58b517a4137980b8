"""Keyword control (the paper's Table 4): the same inputs decoded under their own keywords, under other texts' keywords, and under none.

A swap puts one keyword in place of all of an input's own: a node of the keyword graph that is a keyword of another source of the split
and stands in no form in the input. The draw is a function of (seed, number of the input in its split), so an input gets the same
keywords whichever inputs are chosen beside it.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from hcl_tf.data.batching.sample_rows import sample_rows
from hcl_tf.data.corpora.formats import ROLES
from hcl_tf.data.keywords.graph import UNKNOWN
from hcl_tf.data.store.tfrecords import Record
from hcl_tf.decoding import sources
from hcl_tf.errors import UserError
from hcl_tf.evaluation.scoring import decode, head_of
from hcl_tf.studies.keyword_control import page
from hcl_tf.studies.keyword_control.measures import CONDITIONS, NONE, OWN, SWAPPED, Measured, faithfulness, inclusion, prior_kl, prior_shift
from hcl_tf.training.trained_run import BEST, TrainedRun

INPUTS = 200


@dataclass(frozen=True)
class KeywordControlRequest:
    """What to measure.

    Attributes:
      inputs: how many, evenly spread over the split; None: `INPUTS`. ids: these instead.
      swaps: keywords swapped in, one after the other, for each input. seed: of their draw.
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
        """The middle of the results' names: inputs chosen by hand never replace those that nobody chose."""
        parts = [self.split, self.checkpoint if self.checkpoint != BEST[0] else "", "chosen" if self.ids else ""]
        return ".".join(filter(None, parts))


@dataclass(frozen=True)
class Swap:
    """A keyword of another text: its node and name, and the id of the example from whose source it is."""

    node: int
    name: str
    origin: str


def keyword_control(request: KeywordControlRequest) -> dict:
    """Writes keywords.<label>.md and keywords.<label>.json (last) into the run's folder, prints the measures, and returns the data.

    Raises:
      UserError: the run is not finished, uses no keywords or can't be read, the data is not the run's, or an id is not in the split.
    """
    if request.ids and request.inputs is not None:
        raise UserError("--ids and --inputs contradict each other: --ids names all inputs")
    trained = TrainedRun(request.run_dir, request.checkpoint, request.data_dir, finished=True)
    run, found = trained.run, measure(trained, request)
    run.write_text(f"keywords.{request.label}.md", page.page(found))
    run.write_json(f"keywords.{request.label}.json", found)
    print("\n".join(page.lines(found)), flush=True)
    print(f"wrote keywords.{request.label}.json and keywords.{request.label}.md to {run.path}", flush=True)
    return found


def measure(trained: TrainedRun, request: KeywordControlRequest) -> dict:
    """All data of a keyword-control experiment, ready for JSON.

    Returns:
      What the result is a result of (as in scores.<split>.json, with `swaps`, `draw_seed`); `figures`: `measures.faithfulness`;
      `rows`: one an input, with `outputs` under each condition (Table 4).

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

    asked = _requests(inputs, swaps)
    outputs = _by_condition(decode(trained, [one for draws in asked.values() for draw in draws for one in draw]), asked)
    measured = Measured(
        language, [record.source.raw for record in inputs],
        [[forms[keyword.text] for keyword in record.source.keywords] for record in inputs],
        [[forms[swap.name] for swap in draw] for draw in swaps],
        outputs, _priors(trained, asked),
    )  # fmt: skip
    head = head_of(trained.run.config, settings, trained.checkpoint, trained.step, data, request.split, len(inputs))
    return (
        head
        | {"swaps": request.swaps, "draw_seed": request.seed}
        | {"chosen_by_id": bool(request.ids), "figures": faithfulness(measured), "rows": _rows(inputs, swaps, measured)}
    )


def choose(records: Sequence[Record], request: KeywordControlRequest) -> list[int]:
    """The numbers of the inputs in their split. Raises `UserError` naming the first id that is not there."""
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
    """Keyword -> itself and the forms in which it stands in the records' texts, as they were tagged: no second tagger is needed to find
    "questions" for the node "question"."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for record in records:
        for text in (getattr(record, role) for role in ROLES):
            for keyword in text.keywords:
                found[keyword.text].update({keyword.text: None, text.raw[keyword.start : keyword.end].lower(): None})
    return {name: tuple(forms) for name, forms in found.items()}


def draw_swaps(records: Sequence[Record], row: int, forms: dict[str, tuple[str, ...]], language: str, swaps: int, seed: int) -> list[Swap]:
    """`swaps` different keywords for the input `row`: each one of another source, which is drawn first.

    Raises `UserError` where that does not give enough.
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
        if node in taken or node in own.nodes or inclusion([own.raw], [[forms[name]]], language)[0]:
            continue
        taken[node] = Swap(node, name, records[other].id)
        if len(taken) == swaps:
            return list(taken.values())
    raise UserError(
        f"--swaps={swaps}: other texts of the split gave only {len(taken)} keywords for example {records[row].id} that the graph knows and "
        "that it does not contain; give fewer"
    )


def _requests(inputs: Sequence[Record], swaps: Sequence[Sequence[Swap]]) -> dict[str, list[list[sources.Source]]]:
    """Condition -> [draws][n]."""
    own = [sources.from_record(record.source) for record in inputs]
    asking = lambda nodes, names: {"nodes": nodes, "keywords": names}  # noqa: E731
    swapped = [
        [dataclasses.replace(one, **asking((swap.node,), (swap.name,))) for one, swap in zip(own, draw, strict=True)] for draw in swaps
    ]
    return {OWN: [own], SWAPPED: swapped, NONE: [[dataclasses.replace(one, **asking((), ())) for one in own]]}


def _by_condition(outputs: Sequence[str], asked: dict[str, list[list[sources.Source]]]) -> dict[str, list[list[str]]]:
    """Outputs in the order of the requests, divided as these are."""
    remaining = iter(outputs)
    return {condition: [[next(remaining) for _ in draw] for draw in draws] for condition, draws in asked.items()}


def _priors(trained: TrainedRun, asked: dict[str, list[list[sources.Source]]]) -> dict[str, tuple[np.ndarray, np.ndarray]] | None:
    """Condition -> means and standard deviations [draws, n, Z] of the priors that generation uses; None: the system has none."""

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
    mean, stddev = (np.split(np.concatenate(part), ends) for part in zip(*parts, strict=True))
    shape = lambda part, draws: part.reshape(len(draws), len(draws[0]), -1)  # noqa: E731
    return {name: (shape(mu, asked[name]), shape(sigma, asked[name])) for name, mu, sigma in zip(asked, mean, stddev, strict=True)}


def _rows(inputs: Sequence[Record], swaps: Sequence[Sequence[Swap]], m: Measured) -> list[dict]:
    """Table 4: each input with its keywords and output under each condition; `included`: the share of these keywords in the output."""
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
    """How far one input's prior moved."""
    moved, own = ([part[number, place] for part in priors[name]] for name, number in ((condition, draw), (OWN, 0)))
    return {"prior_shift": float(prior_shift(moved[0], *own)), "prior_kl": float(prior_kl(tuple(moved), tuple(own)))}
