"""Results of runs that never were, in the form of `evaluation.rows.record_of`, with scores that a test chooses."""

from pathlib import Path

import numpy as np

from hcl_tf import ARITHMETIC
from hcl_tf.evaluation.rows import CORPUS, PER_SENTENCE, Result
from hcl_tf.models.registry import SYSTEMS, resolve
from hcl_tf.settings import PUBLISHED

SCORES = (*PER_SENTENCE, "Extrema", "Average", "Greedy", "sacreBLEU", "distinct-2", "distinct-outputs", "source-BLEU-4")
SHARES = ("verbatim-training-targets", "keywords-included")
SENTENCES = 50


def made(row: str = "hcl", seed: int = 1, score: float = 20.0, preset: str = "paper", whole: bool = True, **changes) -> Result:
    """A result whose sentences score around `score`; `changes`: of the record."""
    draw = np.random.default_rng([seed, len(row)])
    sentences = (100 * np.clip(score + draw.normal(0, 1, SENTENCES), 0, None)).round().astype(int)
    entry = lambda value, name: {"value": value, "low": value - 1, "high": value + 1, "signature": f"{name}|made", "sentences": SENTENCES}  # noqa: E731
    scores = {name: entry(float(sentences.mean()) / 100, name) for name in (*SCORES, *SHARES)}
    known = {
        "id": "1",
        "source": "Is <b>rain</b> wet?",
        "keywords": ["rain"],
        "reference": "Why is rain wet?",
        "prediction": f"rain by {row} & co",
    }
    model = max((name for name in SYSTEMS if f"{row} ".startswith((f"{name} ", f"{name}_"))), key=len)
    points = [{"step": step, "nll": 50.0 - step, "kl": 3.0, "loss": 60.0, "examined/order_ins": 0.5 + step / 100} for step in (0, 10, 20)]
    settings = resolve(preset, {"model": model, "seed": seed}).settled(PUBLISHED, {}).to_dict()
    settings |= {"pretrained": "published"} if "pretrained" in settings else {}  # where the row's own weights were
    record = {
        "system": row, "seed": seed, "flags": [], "task": "qqp", "settings": settings,
        "encoder": "encoder: bert-base-uncased: 12 layers", "finished": {"best_step": 20}, "data": "d",
        "corpus": dict.fromkeys(CORPUS) | {"whole": whole, "raw_files": {"raw.tsv": "r"}, "tokenizer": {"name": "vocab.txt"}},
        "references": "e", "examples": SENTENCES, "of": SENTENCES, "training_examples": 100, "step": 20, "validation": points[-1],
        "scores": scores, "floors": {"copy_source": scores, "random_target": scores},
        "figures": {"collapsed": False, "means": {"kl": entry(3.0, "")}, "differences": {}},
        "curves": {"train": points, "validation": points}, "per_sentence": {name: sentences.tolist() for name in PER_SENTENCE},
        "environment": {
            "cpu": {"name": "cpu", "cores": 2, "cores_usable": 1}, "memory_gib": 8, "gpus": [], "python": "3.11",
            "packages": {"tensorflow": "2", "hcl_tf": "0"}, "commit": {"id": "0123456789abcdef", "dirty": False},
            "arithmetic": ARITHMETIC,
        },
        **{name: [known | {"BLEU-2": 1.0}] for name in ("samples", "best", "worst")},
    }  # fmt: skip
    return Result(Path("runs") / f"{row}-{seed}", record | changes)


def without_weights(result: Result) -> Result:
    """The same where the row's published weights were not there."""
    return with_settings(result, pretrained="")


def without_scores(result: Result, *names: str) -> Result:
    """The same as a version kept it that had no such scores."""

    def known(scores: dict) -> dict:
        return {name: entry for name, entry in scores.items() if name not in names}

    floors = {name: known(scores) for name, scores in result.record["floors"].items()}
    return Result(result.origin, result.record | {"scores": known(result.record["scores"]), "floors": floors})


def with_settings(result: Result, **settings) -> Result:
    """The same with other settings."""
    return Result(result.origin, result.record | {"settings": result.record["settings"] | settings})
