"""Raw corpus in, verified TFRecords out:

python -m hcl_tf.prepare --task=qqp --raw=quora_duplicate_questions.tsv
python -m hcl_tf.prepare --task=qqp --raw=tfds:glue/qqp
python -m hcl_tf.prepare --inspect=tfrecords/qqp
python -m hcl_tf.prepare --verify=tfrecords/qqp
"""

import os
from pathlib import Path

from absl import flags

from hcl_tf import cli, config
from hcl_tf.data.corpora import generated
from hcl_tf.data.corpora.encodings import codec_of
from hcl_tf.data.corpora.formats import READERS
from hcl_tf.errors import UserError

TASK = flags.DEFINE_enum("task", None, [*config.TASKS, config.CUSTOM], "What to prepare.")
RAW = flags.DEFINE_string(
    "raw", None,
    "Corpus: a file, a folder with train, validation and test files, or tfds:NAME, a data set of TensorFlow Datasets (tfds:glue/qqp). "
    "Default: the task's own sample (--sample).",
)  # fmt: skip
SAMPLE = flags.DEFINE_enum(
    "sample", "written", ["written", "generated"],
    "Which sample is prepared without --raw: some 430 hand-written examples, or some 3,000 that a grammar derives.",
)  # fmt: skip
OUT = flags.DEFINE_string("out", None, "Folder to write. Default: tfrecords/<task>.")
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Replace --out if it is a prepared folder.")
WORKERS = flags.DEFINE_integer(
    "workers",
    len(os.sched_getaffinity(0)),
    "Processes for keyword extraction; the result does not depend on it.",
    lower_bound=1,
    upper_bound=256,
)
SEED = flags.DEFINE_integer("seed", 1, "Seeds the drawn splits and negatives.", lower_bound=0)
LIMIT = flags.DEFINE_integer("limit", None, "Read at most this many rows of each raw file.", lower_bound=1)
SKIP_BAD_LINES = flags.DEFINE_boolean(
    "skip_bad_lines", False, "Leave out lines that can't be used and count them, instead of refusing the file."
)
FORMAT = flags.DEFINE_enum(
    "format",
    None,
    [name for name in READERS if name != "unlabelled"],
    "Format of the raw files. Default: recognised from each file's first lines (docs/data.md: what each looks like).",
)
ENCODING = flags.DEFINE_string(
    "encoding", None, "Encoding of the raw files if it is not UTF-8: utf-16, gb18030, big5, cp1252, or another one that Python knows."
)
FIELDS = flags.DEFINE_list(
    "fields", [],
    "Other names of JSONL or table fields: source:NAME,target:NAME,negative:NAME,id:NAME; numbers of columns where there is no header.",
)  # fmt: skip

LANG = flags.DEFINE_enum("lang", None, ["en", "zh"], "Language of --task=custom.")
SOURCE_LENGTH = flags.DEFINE_integer(
    "source_length", None, "WordPieces kept of a source in --task=custom (default 100).", lower_bound=1, upper_bound=510
)
TARGET_LENGTH = flags.DEFINE_integer(
    "target_length",
    None,
    f"WordPieces kept of a target and of a negative in --task=custom (default {config.TARGET_LENGTH}). Train with as long outputs: "
    "--maximum_length.",
    lower_bound=1,
    upper_bound=510,
)
STORY_MODE = flags.DEFINE_enum(
    "story_mode", "ending", ["ending", "next"], "RocStories: four sentences predict the fifth, or every prefix its next sentence."
)
SPLIT_BY = flags.DEFINE_enum("split_by", "sample", ["sample", "question"], "How drawn splits are divided; question: no text in two splits.")
QQP_SAMPLES = flags.DEFINE_enum(
    "qqp_samples",
    "nearest",
    ["nearest", "one_per_positive", "one_per_input", "all_pairs"],
    "How labelled question pairs become samples; nearest: to the paper's 44,949.",
)
NEGATIVES = flags.DEFINE_enum(
    "negatives", None, ["labelled", "labelled_then_bm25", "bm25", "random"],
    "Where negatives come from. Default: labelled for qqp; for the others the corpus's own where it has some, then BM25; "
    "for the Douban Conversation Corpus BM25.",
)  # fmt: skip
REQUIRE_LABELLED = flags.DEFINE_boolean(
    "require_labelled", False,
    "Of qqp keep only samples that have a labelled negative, whatever --negatives takes: the same samples with other negatives. Also of "
    "--held_out_pairs.",
)  # fmt: skip
HELD_OUT_PAIRS = flags.DEFINE_integer(
    "held_out_pairs", 0,
    "Of question pairs draw the test split first: one duplicate pair of each of so many clusters of duplicates, whether or not it has a "
    "labelled negative (BM25 fills), unless --require_labelled. No text of these clusters is trained on. 0: the test split is drawn as "
    "--split_by says.",
    lower_bound=0,
)  # fmt: skip
BM25_CANDIDATES = flags.DEFINE_integer(
    "bm25_candidates", 10, "A BM25 negative is drawn from this many best hits.", lower_bound=1, upper_bound=50
)

VOCAB = flags.DEFINE_string(
    "vocab",
    None,
    "WordPiece vocabulary: a hub name, folder, vocab.txt, tokenizer.json, 'minilm' or 'learn'. Default: BERT's if a hub is reachable or, "
    "in English, MiniLM is installed; else learned.",
)
VOCAB_SIZE = flags.DEFINE_integer("vocab_size", 8000, "Pieces of a learned vocabulary.", lower_bound=100)
TAGGER = flags.DEFINE_string(
    "tagger", "auto", "spaCy model for TextRank (name or folder), 'builtin', or 'auto': the trained small model if installed, else builtin."
)
KEYWORD_UNIT = flags.DEFINE_enum("keyword_unit", "word", ["word", "phrase"], "Whether a keyword is a content word or a noun phrase.")
MAX_KEYWORDS = flags.DEFINE_integer("max_keywords", 4, "Keywords kept of a text.", lower_bound=1, upper_bound=32)
MIN_KEYWORD_COUNT = flags.DEFINE_integer(
    "min_keyword_count", 3, "Training samples that a keyword must occur in to be a node of the graph.", lower_bound=1
)
GRAPH_DEGREE = flags.DEFINE_integer("graph_degree", 16, "Strongest neighbours kept a node and relation.", lower_bound=1, upper_bound=256)
GRAPH_INPUT_EDGES = flags.DEFINE_boolean("graph_input_edges", False, "Also join source keywords with target keywords of their samples.")

EDGE_STRENGTH = flags.DEFINE_enum(
    "edge_strength", "association", ["association", "count"],
    "How neighbours of the keyword graph are ranked: by smoothed positive PMI, or by how often an edge occurs (before version 0.3).",
)  # fmt: skip

INSPECT = flags.DEFINE_string("inspect", None, "Print what a prepared folder holds, and do nothing else.")
EXAMPLES = flags.DEFINE_integer("examples", 10, "Decoded examples that --inspect shows.", lower_bound=0)
VERIFY = flags.DEFINE_string("verify", None, "Reread a prepared folder and exit non-zero on any damage, and do nothing else.")


def _fields() -> dict[str, str]:
    """--fields as {our name: the file's name}."""
    mapping = {}
    for item in FIELDS.value:
        ours, _, name = item.partition(":")
        if ours not in ("source", "target", "negative", "id") or not name:
            raise UserError(f"--fields={item}: source:NAME, target:NAME, negative:NAME or id:NAME is expected")
        if ours in mapping or name in mapping.values():
            raise UserError(f"--fields={item}: {ours if ours in mapping else name} is named twice; each field has a column of its own")
        mapping[ours] = name
    return mapping


def main() -> None:
    """Runs the command that the flags ask for."""
    asked = [name for name, flag in (("--task", TASK), ("--inspect", INSPECT), ("--verify", VERIFY)) if flag.value]
    if len(asked) != 1:
        raise UserError(
            f"exactly one of --task, --inspect and --verify is needed{'; got ' + ' and '.join(asked) if asked else ''} (see --help)"
        )
    looks = INSPECT.value or VERIFY.value
    task = None if looks else config.resolve_task(TASK.value, LANG.value, SOURCE_LENGTH.value, TARGET_LENGTH.value)
    fields = _fields()
    if REQUIRE_LABELLED.value and TASK.value not in config.PARAPHRASES:
        raise UserError(f"--require_labelled is of question pairs: --task=qqp, not --task={TASK.value}")
    if ENCODING.value:
        codec_of(ENCODING.value)  # so that a wrong name is found at once
    if task and task.name == config.CUSTOM and not RAW.value:
        raise UserError("--task=custom needs --raw")
    is_generated = SAMPLE.value == "generated"
    if is_generated and (RAW.value or TASK.value not in config.TASKS):
        raise UserError("--sample=generated takes the place of --raw, and needs --task=" + ", ".join(config.TASKS))
    # Imported late: --help and a mistyped flag answer at once.
    cli.import_tensorflow()
    if INSPECT.value:
        from hcl_tf.data.store.inspection import inspect

        for line in inspect(Path(INSPECT.value), EXAMPLES.value):
            print(line)
        return
    if VERIFY.value:
        from hcl_tf.data.store.verification import verify

        manifest = verify(Path(VERIFY.value))
        print(f"{VERIFY.value}: whole; " + ", ".join(f"{split} {part['examples']:,}" for split, part in manifest["splits"].items()))
        return
    from hcl_tf.data.preparation import PreparationSettings, prepare

    settings = PreparationSettings(
        negatives=NEGATIVES.value,
        require_labelled=REQUIRE_LABELLED.value,
        held_out_pairs=HELD_OUT_PAIRS.value,
        fields=fields,
        bm25_candidates=BM25_CANDIDATES.value,
        qqp_samples=QQP_SAMPLES.value,
        split_by=SPLIT_BY.value,
        story_mode=STORY_MODE.value,
        limit=LIMIT.value,
        format=FORMAT.value,
        encoding=ENCODING.value,
        skip_bad_lines=SKIP_BAD_LINES.value,
        tagger=TAGGER.value,
        keyword_unit=KEYWORD_UNIT.value,
        max_keywords=MAX_KEYWORDS.value,
        min_keyword_count=MIN_KEYWORD_COUNT.value,
        graph_degree=GRAPH_DEGREE.value,
        graph_input_edges=GRAPH_INPUT_EDGES.value,
        edge_strength=EDGE_STRENGTH.value,
        vocab=VOCAB.value or ("learn" if is_generated else None),
        vocab_size=VOCAB_SIZE.value,
        seed=SEED.value,
    )
    out = Path(OUT.value or f"tfrecords/{task.name}")
    raw = generated.write(task.name, generated.folder_beside(out)) if is_generated else Path(RAW.value or task.sample)
    prepare(task, raw, out, settings, WORKERS.value, OVERWRITE.value, generated.about(task.name) if is_generated else None)


if __name__ == "__main__":
    cli.run(main)
