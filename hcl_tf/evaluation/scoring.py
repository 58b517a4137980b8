"""What `python -m hcl_tf.evaluate` does: a split's outputs, their scores, and diagnostics of the model behind them.

Generation sees source columns only (`decoding.sources.from_record`); references come in when the outputs are there.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from hcl_tf.data.batching.sample_rows import sample_rows
from hcl_tf.data.corpora import generated
from hcl_tf.data.corpora.examples import clean
from hcl_tf.data.corpora.grammar import Grammar
from hcl_tf.data.store import word_vectors
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.data.store.tfrecords import Record
from hcl_tf.data.tokenizers import normalization
from hcl_tf.data.tokenizers.words import vocabulary
from hcl_tf.decoding import sources
from hcl_tf.errors import UserError
from hcl_tf.evaluation import derivations, diagnostics, preference, sentence_similarity
from hcl_tf.evaluation.dependence import units_of_records
from hcl_tf.evaluation.evaluated_run import label_of
from hcl_tf.evaluation.intervals import interval, number, table
from hcl_tf.markdown import markdown_table
from hcl_tf.metrics.samples import score_samples, sources_of
from hcl_tf.metrics.scores import MATCHED, score, with_normalization
from hcl_tf.metrics.significance import means as means_of
from hcl_tf.models import registry
from hcl_tf.models.base import System
from hcl_tf.models.inputs import Inputs
from hcl_tf.progress import bar, working
from hcl_tf.settings import DecodingSettings, Settings
from hcl_tf.training.launch import compiled
from hcl_tf.training.run_folder import Run
from hcl_tf.training.trained_run import BEST, TrainedRun

DECODING = [name for name in DecodingSettings.__annotations__ if name != "group"]
SHOWN = 20  # examples of samples.<split>.md
WORTH_COMPILING = 200  # texts; below, XLA's compilation takes longer than it saves
FLOOR_SEED = 1
SINGLE_SCORE, SINGLE = "BLEU-2", "BLEU-2-single"  # of the one output that is no sample, and its name beside theirs


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate.

    Attributes:
      embeddings: a GloVe or word2vec text file for the embedding scores. limit: only the first so many examples.
      samples: how many times a source is decoded once more, with a z drawn from the prior. sampled_sources: only the first so many of them;
        None: all. It is the most expensive part of an evaluation.
    """

    run_dir: Path
    split: str = "test"
    checkpoint: str = BEST[0]
    data_dir: Path | None = None
    embeddings: Path | None = None
    limit: int | None = None
    samples: int = 0
    sampled_sources: int | None = None

    @property
    def label(self) -> str:
        """The middle of the results' names (`label_of`)."""
        return label_of(self.split, self.checkpoint, f"first{self.limit}" if self.limit else "")


def evaluate(request: EvaluationRequest, trained: TrainedRun | None = None) -> dict:
    """Writes predictions, samples, diagnostics and scores of a run into its folder, prints a table, and returns the scores.

    Args:
      trained: the run at the checkpoint that is asked for, where it is open already.

    Files (each whole or not there; scores last): predictions.<label>.jsonl, samples.<label>.md, figures.<label>.json,
    scores.<label>.json. The label is the split, with checkpoint and limit where they are not the default. Where samples are asked for,
    sampled.<label>.jsonl has them, and `samples` in figures.<label>.json what they are worth (metrics/samples.py).

    Raises:
      UserError: the run, its checkpoint, the data or the vectors can't be used, the data is not the run's, or the system has no z to draw.
    """
    trained = trained or TrainedRun(request.run_dir, request.checkpoint, request.data_dir)
    trained.run.check_writable()
    if request.embeddings and not request.embeddings.is_file():
        raise UserError(f"--embeddings={request.embeddings}: no such file; give a GloVe or word2vec text file")
    with_z = registry.systems_with("latent_size")
    if request.samples and trained.settings.model not in with_z:
        raise UserError(f"--samples: {trained.settings.model} has no latent z to draw; {', '.join(with_z)} have one. Drop the flag")
    records = list(islice(trained.data.records(request.split), request.limit))
    asked = [sources.from_record(record.source) for record in records]
    outputs = decode(trained, asked)
    drawn = decode_samples(trained, asked[: request.sampled_sources], request.samples) if request.samples else []
    head = head_of(trained.run.config, trained.settings, trained.checkpoint, trained.step, trained.data, request.split, len(records))
    looked_into = partial(diagnose, trained, request.split, request.limit)
    return report(trained.run, request, trained.data, records, outputs, head, looked_into, drawn)


def report(
    run: Run,
    request: EvaluationRequest,
    data: PreparedData,
    records: list[Record],
    outputs: list[str],
    head: dict,
    diagnose: Callable[[np.ndarray | None], dict],
    drawn: Sequence[list[str]] = (),
) -> dict:
    """The part of `evaluate` that comes after decoding.

    Args:
      records: of the split, or as many as are asked for; outputs: theirs. head: what the result is a result of.
      diagnose: gives the diagnostics of the model (evaluation/diagnostics.py), of units of examples. drawn: what `decode_samples`
        returns, of all examples or the first.
    """
    print("scoring", flush=True)
    with working("scoring"):
        inputs = _ScoreInputs(data, records, request.embeddings, outputs)
        scores, per_example = inputs.score(outputs)
        copy_source, of_copies = inputs.copies()
    rows = [_row(*parts) for parts in zip(records, outputs, per_example, of_copies, strict=True)]
    run.write_jsonl(f"predictions.{request.label}.jsonl", rows)
    run.write_text(f"samples.{request.label}.md", _samples(rows, head))
    print("diagnosing the model", flush=True)
    with working("diagnosing the model"):
        found = head | {"figures": diagnose(inputs.units), "floors": {"copy_source": copy_source, "random_target": inputs.random()}}
    if not drawn:
        (run.path / f"sampled.{request.label}.jsonl").unlink(missing_ok=True)  # of an earlier evaluation, whose figures are replaced
    else:
        print("scoring the samples", flush=True)
        with working("scoring the samples"):
            means = inputs.score_samples(drawn) | inputs.beside_samples(per_example[: len(drawn[0])], scores)
            found["samples"] = {"of_each": len(drawn), "seed": head["seed"], "means": means}
        of_each = zip(*drawn, strict=True)  # --> [sources][samples]
        run.write_jsonl(f"sampled.{request.label}.jsonl", (_drawn_row(*pair) for pair in zip(records, of_each, strict=False)))
    if known := generated.grammar_of(data.manifest):
        found["derivations"] = inputs.derivations(known, outputs)
    run.write_json(f"figures.{request.label}.json", found)
    run.write_json(f"scores.{request.label}.json", head | {"scores": scores})
    print("\n".join(_table(scores, found)), flush=True)
    if derived := found.get("derivations"):
        print("\n".join(["", *derivations.lines(derived, rows)]), flush=True)
    print(f"wrote predictions, samples, diagnostics and scores of {request.label} to {run.path}", flush=True)
    return scores


def decode(trained: TrainedRun, sources: list[sources.Source]) -> list[str]:
    """The best output for each source; z, where there is one, at the prior's mean."""
    (outputs,) = _decode(trained, sources, 1, sampled=False)
    return outputs


def decode_samples(trained: TrainedRun, sources: list[sources.Source], samples: int) -> list[list[str]]:
    """The best output for each source under each of some z drawn from the prior: [samples][n].

    What a z is drawn with depends on the run's seed, the number of the sample and the number of the source alone (layers/noise.py).
    """
    return _decode(trained, sources, samples, sampled=True)


def _decode(trained: TrainedRun, sources: list[sources.Source], times: int, sampled: bool) -> list[list[str]]:
    batches, count = trained.source_batches(), times * len(sources)
    generator = trained.generator(compiled(trained.settings) and count > WORTH_COMPILING, sampled)
    outputs: list[list[str]] = [[] for _ in range(times)]
    began = time.monotonic()
    with bar("decoding samples" if sampled else "decoding", count) as progress:
        for draw, texts in enumerate(outputs):
            raw = iter([source.text for source in sources])
            for batch in batches.of(sources):
                found = generator.texts([batch], raw, draw)
                texts += found
                progress.update(len(found))
    spent, what = time.monotonic() - began, "samples" if sampled else "texts"
    print(f"decoded {count:,} {what} in {spent:.0f} s (compilation included)", flush=True)
    return outputs


class _ScoreInputs:
    """All that scores are taken against, the same for the system and for the floors."""

    def __init__(self, data: PreparedData, records: list[Record], embeddings: Path | None, outputs: list[str]) -> None:
        self._language = data.manifest["task"]["language"]
        self._normal = normalization.of(data.manifest)
        self._references = [record.target.normal for record in records]
        self._sources = [record.source.normal for record in records]
        further = [tuple(map(self._normal, record.references)) for record in records]
        self._further = further if any(further) else None
        # As the words stand in the source: an output is not lemmatised before it is looked at.
        self._keywords = [[record.source.normal[k.start : k.end] for k in record.source.keywords] for record in records]
        targets = [record.target for record in data.records("train")]
        self._targets = [target.normal for target in targets]
        # Scores against texts that are the raw ones are those that they were before there was a normalisation, and bear the same name.
        compared = [*(getattr(record, role) for record in records for role in ("source", "target")), *targets]
        changed = any(text.changed is not None for text in compared) or further != [record.references for record in records]
        self._normalization = normalization.name_in(data.manifest) if changed else normalization.NONE
        self._copies = [clean(source) for source in self._sources]
        chosen = np.random.default_rng(FLOOR_SEED).integers(len(self._targets), size=len(records))
        self._random = [self._targets[i] for i in chosen]
        texts = (map(self._normal, outputs), self._references, self._copies, self._random, *further)
        wanted = vocabulary((text for part in texts for text in part), self._language)
        self._vectors = word_vectors.load_text(embeddings, wanted) if embeddings else data.word_vectors
        self._meaning = sentence_similarity.at_hand(self._language)
        self.units = units_of_records(records, data.manifest)

    def score(self, outputs: list[str]) -> tuple[dict[str, dict], list[dict]]:
        """See `metrics.scores.score`, and where its encoder is at hand `evaluation.sentence_similarity`."""
        known = (self._references, self._sources, self._keywords, self._targets, self._language, self._vectors)
        texts = list(map(self._normal, outputs))
        scores, per_example = score(texts, *known, normalization=self._normalization, further=self._further, units=self.units)
        if self._meaning:
            values = sentence_similarity.similarities(self._meaning, texts, self._references, self._further)
            scores |= with_normalization(sentence_similarity.entry(values, bool(self._further), self.units), self._normalization)
            per_example = [one | {sentence_similarity.NAME: float(value)} for one, value in zip(per_example, values, strict=True)]
        return scores, per_example

    def score_samples(self, drawn: Sequence[list[str]]) -> dict[str, dict]:
        """See `metrics.samples.score_samples`; [samples][n] outputs of the first n sources."""
        normal, n = [list(map(self._normal, texts)) for texts in drawn], len(drawn[0])
        further, units = (part if part is None else part[:n] for part in (self._further, self.units))
        return score_samples(normal, self._references[:n], self._sources[:n], self._language, self._normalization, further, units)

    def beside_samples(self, per_example: list[dict], scores: dict[str, dict]) -> dict[str, dict]:
        """BLEU-2 of the one output at the prior's mean, of the first n sources: what their samples are compared with."""
        units = None if self.units is None else self.units[: len(per_example)]
        found = means_of({SINGLE: np.array([one[SINGLE_SCORE] for one in per_example])}, units)
        return {name: entry | {"signature": scores[SINGLE_SCORE]["signature"]} for name, entry in found.items()}

    def copies(self) -> tuple[dict[str, dict], list[dict]]:
        """See `metrics.scores.score`, of the sources themselves as outputs."""
        return self.score(self._copies)

    def derivations(self, known: Grammar, outputs: list[str]) -> dict[str, dict[str, float]]:
        """See `derivations.measures`: of the outputs, of the sources themselves, and of one training target given to every source."""
        systems = {"outputs": outputs, "copy source": self._copies, "one target": self._targets[:1] * len(outputs)}
        return {name: derivations.measures(known, self._sources, texts) for name, texts in systems.items()}

    def random(self) -> dict[str, dict]:
        """Scores of training targets drawn at random: what any system has to beat."""
        return self.score(self._random)[0]


def diagnose(trained: TrainedRun, split: str, limit: int | None, units: np.ndarray | None) -> dict:
    """Diagnostics of the model on a split (diagnostics.py), whether it prefers targets to negatives, and what rows are compared by example
    for example (preference.py). Of a system without weights there are none."""
    if not trained.model.is_trained:
        return diagnostics.summary({}, trained.model.comparisons)
    arrays = trained.data.arrays(split).first(limit)
    return diagnosed(trained.diagnosed(split, limit), trained.model, arrays, trained.inputs, units)


def diagnosed(
    found: dict[str, np.ndarray], model: type[System], arrays: SplitArrays, inputs: Inputs, units: np.ndarray | None
) -> dict[str, dict]:
    """What `diagnose` returns, of diagnostics that were computed already.

    Args:
      found: name -> [n], those of the model's `diagnose`. model: a system or its class. arrays: the n examples.
    """
    compared = preference.of_split(found, model.output_nll, arrays, inputs)
    further = {"preference": preference.summary(compared, units), "per_example": preference.per_example(compared)}
    return diagnostics.summary(found, model.comparisons, units) | further


def head_of(config: dict, settings: Settings, checkpoint: str, step: int, data: PreparedData, split: str, count: int) -> dict:
    """What a result is a result of. `config`: the run's; `count`: how many examples of the split."""
    splits = data.manifest["splits"]
    return {
        "task": config["task"], "model": settings.model, "variant": settings.variant, "preset": settings.preset, "seed": settings.seed,
        "encoder": config["encoder"], "split": split, "examples": count, "of": splits[split]["examples"],
        "training_examples": splits["train"]["examples"], "data": config["data"],
        "checkpoint": checkpoint, "step": step,
        "decoding": {name: getattr(settings, name) for name in DECODING},
    }  # fmt: skip


def _row(record: Record, output: str, scores: dict, of_copy: dict) -> dict:
    """One line of predictions.jsonl. `of_copy`: the scores of the source itself as output, of which those are kept that reports need."""
    keywords = [keyword.text for keyword in record.source.keywords]
    return _known(record) | {
        "keywords": keywords,
        "prediction": output,
        "scores": scores,
        "copy": {name: of_copy[name] for name in MATCHED},
    }


def _drawn_row(record: Record, outputs: Sequence[str]) -> dict:
    """One line of sampled.jsonl."""
    return _known(record) | {"outputs": list(outputs)}


def _known(record: Record) -> dict:
    """What a line says of an example that no system made."""
    known = {"id": record.id, "source": record.source.raw, "reference": record.target.raw}
    return known | ({"references": list(record.references)} if record.references else {})


def _samples(rows: list[dict], head: dict) -> str:
    chosen = [rows[i] for i in sample_rows(len(rows), SHOWN)]
    shown = [
        {
            "id": r["id"],
            "source": r["source"],
            "keywords": ", ".join(r["keywords"]),
            "reference": r["reference"],
            "prediction": r["prediction"],
        }
        for r in chosen
    ]
    title = f"{head['model']} on {head['task']}, {head['split']} split, checkpoint {head['checkpoint']} (step {head['step']})"
    return f"{title}: {len(shown)} of {len(rows)} examples, evenly spread.\n\n{markdown_table(shown)}\n"


def _table(scores: dict[str, dict], found: dict) -> list[str]:
    """Scores beside the floors, then the diagnostics, as lines."""
    floors = found["floors"]
    place = f"{found['model']} on {found['task']}, {found['split']}: {found['examples']:,} examples"
    lines = [f"{place}, checkpoint {found['checkpoint']} (step {found['step']})"]
    lines.append(f"{'':<26}{'value':>9}  {'95% interval':<18}{'copy source':>12}{'random target':>15}")
    for name, entry in scores.items():
        others = (number(floors[floor][name]["value"]) for floor in ("copy_source", "random_target"))
        lines.append("{:<26}{:>9}  {:<18}{:>12}{:>15}".format(name, number(entry["value"]), interval(entry), *others))
    lines.append("BLEU-1 to BLEU-4, smoothed as in the paper, can be above 100 (docs/faq.md says why); sacreBLEU can not")
    if drawn := found.get("samples"):
        lines += table(f"{drawn['of_each']} of each of {sources_of(drawn['means']):,}, z drawn", drawn["means"])
    return lines + diagnostics.lines(found["figures"])
