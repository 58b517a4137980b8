"""Memory and time of preparation at the paper's size: a small dialogue corpus repeated with perturbed text.

  python benchmarks/scale.py --raw=chat.jsonl --rows=238039

Each row takes the turns of several dialogues (the paper's Douban has 3.94 turns of 38 characters a context) and replaces
some of their characters by others of the corpus, so that texts, keywords and n-grams are nearly all distinct, as they are
in a real corpus of that size.
"""

import json
import random
import sys
import tempfile
from pathlib import Path

from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

RAW = flags.DEFINE_string("raw", None, "JSONL of dialogues (context, response).", required=True)
ROWS = flags.DEFINE_integer("rows", 238_039, "Rows to make; the default is the paper's three splits together.", lower_bound=10)
CHARACTERS = flags.DEFINE_integer("characters", 150, "Least characters of a context.", lower_bound=1)
CHANGED = flags.DEFINE_float("changed", 0.03, "Share of characters replaced.", lower_bound=0, upper_bound=1)


def make_rows(rows: list[dict], count: int, characters: int, changed: float):
    """Yields `count` dialogues of four turns; seeded."""
    draw = random.Random(1)
    alphabet = sorted({c for row in rows for c in row["response"] if "\u4e00" <= c <= "\u9fff"})
    pool = [turn for row in rows for turn in (*row["context"], row["response"])]

    def perturb(text: str) -> str:
        return "".join(draw.choice(alphabet) if draw.random() < changed and c in alphabet_set else c for c in text)

    alphabet_set = set(alphabet)
    for number in range(count):
        turns = [""] * 4
        while sum(map(len, turns)) < characters:
            turns[draw.randrange(4)] += draw.choice(pool)
        yield {"id": str(number), "context": [perturb(t) for t in turns if t], "response": perturb(draw.choice(rows)["response"])}


def main(_) -> None:
    """Writes the corpus to a scratch folder, prepares it and prints time and peak memory."""
    import processes

    rows = [json.loads(line) for line in Path(RAW.value).read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(scratch) / "dialogues.jsonl"
        with corpus.open("w", encoding="utf-8") as file:
            for row in make_rows(rows, ROWS.value, CHARACTERS.value, CHANGED.value):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        size = corpus.stat().st_size / 1e6
        out = Path(scratch) / "prepared"
        seconds, memory, output = processes.run(
            ["-m", "hcl_tf.prepare", "--task=douban", f"--raw={corpus}", f"--out={out}", "--vocab=learn"]
        )
        print(output)
        print(f"{ROWS.value:,} dialogues, {size:,.0f} MB of text: {seconds:,.0f} s, peak {memory:.2f} GB")


if __name__ == "__main__":
    app.run(main)
