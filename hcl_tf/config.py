"""The tasks' fixed settings. Values marked [P] are stated in the paper (section 4.1); the rest are ours, see BUILD_NOTES.md."""

from dataclasses import asdict, dataclass
from pathlib import Path

from hcl_tf.errors import UserError

SAMPLES = Path(__file__).parent / "data" / "samples"
SPLITS = ("train", "validation", "test")
STUDIES = ("channel", "likelihood", "keyword_control", "representations")  # of hcl_tf.studies, those that a row can have
CUSTOM = "custom"  # a task of one's own
PARAPHRASES = ("qqp",)  # tasks whose source and target mean the same: texts that pairs join are a cluster, and no negatives of each other
TARGET_LENGTH = 20  # [P] at most 20 decoding steps, so the targets of its tasks are cut there
TARGET_MINIMUM = 5  # [P] at least 5 decoding steps


@dataclass(frozen=True)
class Task:
    """What distinguishes one task's data from another's. Lengths are in WordPieces without [CLS] and [SEP]."""

    name: str
    language: str  # "en" or "zh"
    source_length: int
    source_keep: str  # which end survives the cut: "head", or "tail" for dialogue, whose last turn matters most
    negatives: str  # default of --negatives
    sizes: tuple[int, int, int] | None  # the paper's train, validation and test examples; None: 8:1:1
    full_corpus: int  # raw rows from which a file counts as the paper's whole corpus
    target_length: int = TARGET_LENGTH

    @property
    def sample(self) -> Path:
        """The corpus for this task that ships with the package."""
        return SAMPLES / f"{self.name}.jsonl"

    def described(self) -> dict:
        """The task in a manifest: its fields as `task`, and `target_length`, which stands by itself there."""
        fields = asdict(self)
        target_length = fields.pop("target_length")
        return {"task": fields, "target_length": target_length}


TASKS = {
    task.name: task
    for task in (
        Task("qqp", "en", 20, "head", "labelled", (40_441, 2_254, 2_254), 400_000),
        Task("douban", "zh", 100, "tail", "labelled_then_bm25", (218_039, 10_000, 10_000), 238_039),
        Task("rocstories", "en", 100, "head", "labelled_then_bm25", None, 98_000),
    )
}


def resolve_task(name: str, language: str | None = None, source_length: int | None = None, target_length: int | None = None) -> Task:
    """The settings of a named task, or of a user's own (`custom`, which needs `language` and may set the two lengths)."""
    if name != CUSTOM:
        if language or source_length or target_length:
            raise UserError(f"--lang, --source_length and --target_length belong to --task=custom; {name} has fixed ones (from the paper)")
        return TASKS[name]
    if language is None:
        raise UserError("--task=custom needs --lang=en or --lang=zh")
    return Task(CUSTOM, language, source_length or 100, "head", "labelled_then_bm25", None, 0, target_length or TARGET_LENGTH)
