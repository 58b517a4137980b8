"""Generates a line of output for each line of input (`python -m hcl_tf.generate`), batch by batch, so that input may be of any length."""

import re
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from hcl_tf.data.corpora.text_files import MOST_CHARACTERS_A_LINE
from hcl_tf.decoding.generator import Generator
from hcl_tf.decoding.source_reader import SourceReader
from hcl_tf.decoding.sources import SHAPES, Source
from hcl_tf.errors import UserError
from hcl_tf.progress import track
from hcl_tf.training.trained_run import TrainedRun

STANDARD_INPUT = "standard input"
SEPARATOR = "\t"  # between the samples of one input; no output holds white space other than blanks


def generate(run_dir: Path, checkpoint: str, file: Path | None, keywords: str | None, samples: int) -> None:
    """Writes one line to standard output for each line of a file or of standard input; notes go to standard error.

    Args:
      file: None stands for standard input, which is answered line by line if a person types it.
      keywords: for all lines, separated by commas; None: each line's own, by TextRank.
      samples: 0: one output, from the prior's mean. N: N outputs of different z drawn from the prior, separated by TABs; the z of a line
        depends on the run's seed and on the line's number among those with text.

    Raises:
      UserError: the run, the file, a line of it or a keyword can't be used.
    """
    if not file and sys.stdin is None:
        raise UserError("standard input is closed; give texts there, a line each, or a file with --input")
    count = _check(file) if file else None
    given = None if keywords is None else split_keywords(keywords)
    trained = TrainedRun(run_dir, checkpoint)
    if given is not None and not trained.system.uses_keywords:
        raise UserError("--keywords: this run was trained without keywords, so they can't change anything; leave the flag out")
    reader = SourceReader(trained.manifest, trained.tokenizer, trained.graph, given)
    for note in reader.notes:
        print(f"note: {note}", file=sys.stderr, flush=True)
    if file:
        with file.open("rb") as stream:
            _write(trained, reader, lines(stream, str(file)), samples, SHAPES[-1], count)
    else:
        typed = sys.stdin.isatty()
        _write(trained, reader, lines(sys.stdin.buffer, STANDARD_INPUT), samples, 1 if typed else SHAPES[-1])


def split_keywords(text: str) -> list[str]:
    """Splits keywords at commas, English or Chinese ones. Raises `UserError` where there is no keyword."""
    found = [keyword for part in re.split("[,，、]", text) if (keyword := part.strip())]
    if not found:
        raise UserError("--keywords: no keyword given; give words separated by commas, or leave the flag out for TextRank's")
    return found


def lines(stream: BinaryIO, name: str) -> Iterator[str]:
    """Yields the lines of UTF-8 text, without their ends. Raises `UserError` with the number of a line that is not UTF-8 or too long."""
    number = 0
    while raw := stream.readline(4 * MOST_CHARACTERS_A_LINE + 2):
        number += 1
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            if len(raw) < 4 * MOST_CHARACTERS_A_LINE:
                raise UserError(f"{name}:{number}: not valid UTF-8 at byte {error.start + 1}; convert the text to UTF-8") from error
            text = raw.decode("utf-8", "ignore")  # cut within a character: too long in any case
        if len(text) > MOST_CHARACTERS_A_LINE:
            raise UserError(f"{name}:{number}: a line of over {MOST_CHARACTERS_A_LINE:,} characters; one text a line is expected")
        yield text.rstrip("\r\n")


def outputs(trained: TrainedRun, reader: SourceReader, texts: Iterable[str], samples: int, at_once: int) -> Iterator[list[str]]:
    """Yields the outputs for each text: one, or `samples`; none for a text without content.

    Args:
      at_once: how many texts are read before the first of them is answered.
    """
    batches = trained.source_batches()
    generator = Generator(trained.system, trained.tokenizer, sampled=bool(samples))
    remaining, answered = iter(texts), 0
    while block := list(islice(remaining, at_once)):
        sources = list(map(reader.read, block))
        real: list[Source] = [source for source in sources if source]
        found: Iterator[tuple[str, ...]] = iter(())
        if real:
            batch = batches.make(real, answered)
            raw = [source.text for source in real]
            found = zip(*(generator.texts([batch], raw, draw) for draw in range(samples or 1)), strict=True)
            answered += len(real)
        for source in sources:
            yield list(next(found)) if source else []


def _write(trained: TrainedRun, reader: SourceReader, texts: Iterable[str], samples: int, at_once: int, count: int | None = None) -> None:
    """Writes the outputs, and shows how many are done where nobody sees them come; `count`: of the texts, if it is known."""
    found = outputs(trained, reader, texts, samples, at_once)
    for each in found if sys.stdout.isatty() else track(found, "generating", count):
        print(SEPARATOR.join(each), flush=True)


def _check(file: Path) -> int | None:
    """Reads the whole file once: an unreadable line is better found before the model is loaded than after an hour. Returns its lines."""
    if file.is_fifo() or file.is_char_device():
        return None  # what has been read there is gone
    try:
        with file.open("rb") as stream:
            return sum(1 for _ in lines(stream, str(file)))
    except OSError as error:
        raise UserError(f"--input={file}: can't be read ({error.strerror}); give a text file, one text a line") from error
