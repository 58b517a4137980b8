"""A study of made-up outputs, and sheets of it filled by a rule."""

import csv
import io
from collections.abc import Callable

from hcl_tf.studies.human_evaluation.sheets import COLUMNS, rows
from hcl_tf.studies.human_evaluation.study import SCALES, Item, Study, draw

SYSTEMS = ("claps", "dialogpt", "seq2seq_du", "hcl")
NASTY = (
    '=HYPERLINK("http://x")', "+1 for that", "-5", "@you", "'tis", "1/2", "may 5", "TRUE", "007", "", " ", "a, b; c\td", 'say "no"',
    "two\nturns", "<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>", "&amp; &", "café – “quoted”", "我 2016 年毕业。",
    "مرحبا", "@DATA@", "\u2028x", "😀",
)  # fmt: skip


def toy_study(items: int = 6, annotators: int = 3, seed: int = 1, systems=SYSTEMS, texts=None, keep_case: bool = False) -> Study:
    """Outputs are `texts` in turn, by default texts that name item and system by numbers alone."""
    examples = [{"id": f"id-{i}", "source": texts[i % len(texts)] if texts else f"source number {i}"} for i in range(2 * items)]
    outputs = {
        name: [texts[(i + s) % len(texts)] if texts else f"output of program {s} for {i}" for i in range(2 * items)]
        for s, name in enumerate(systems)
    }
    entries = [
        {"name": name, "model": name, "seed": 1, "preset": "tiny", "step": 5, "predictions_sha256": f"{s:064x}"}
        for s, name in enumerate(systems)
    ]
    origin = {"task": "qqp", "data": "0" * 64, "split": "test", "examples": 2 * items, "keep_case": keep_case, "systems": entries}
    return draw(outputs, examples, items, annotators, seed, keep_case, origin)


def filled(study: Study, annotator: int, rule: Callable[[Item, str, str, int], int]) -> list[list[str]]:
    """The annotator's rows with scores by `rule` of item, system, scale and annotator."""
    result = []
    for row in rows(study, annotator):
        item = study.items[int(row[1]) - 1]
        result.append([*row[: -len(SCALES)], *(str(rule(item, item.systems[row[2]], scale, annotator)) for scale in SCALES)])
    return result


def ones(item: Item, system: str, scale: str, annotator: int) -> int:
    """The rule of an annotator who likes nothing."""
    return 1


def as_saved(lines: list[list[str]], encoding: str = "utf-8-sig", delimiter: str = ",", end: str = "\r\n") -> bytes:
    """A sheet's bytes as another program would save it: quotes only where they are needed."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows([COLUMNS, *lines])
    return text.getvalue().encode(encoding)
