"""Exports a run as one folder that needs TensorFlow only: a SavedModel, and the files with which text is turned into its inputs.

saved_model.pb, variables/   signatures `generate`, `score` and, where there is a latent variable, `prior`; see `export.json`
export.json                  names, shapes and special ids
vocab.txt                    WordPiece pieces, line n (from 0) has id n; where published weights brought a tokeniser, tokenizer/ instead
keywords.txt                 keyword nodes, line n (from 0) is node n
graph/                       the keyword graph (nodes.tsv, edges.npz)
README.md                    the model card
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from hcl_tf.config import SPLITS
from hcl_tf.data.batching.batches import Batch
from hcl_tf.data.corpora.generated import GENERATED
from hcl_tf.data.store.tfrecords import GRAPH, VOCABULARY
from hcl_tf.data.tokenizers import normalization
from hcl_tf.data.tokenizers.library import LibraryTokenizer
from hcl_tf.errors import UserError
from hcl_tf.evaluation.intervals import interval, number
from hcl_tf.files.json_text import from_json, to_json
from hcl_tf.files.whole_folder import whole_or_nothing
from hcl_tf.models.inputs import Inputs
from hcl_tf.progress import working
from hcl_tf.training.assembly import TOKENIZER
from hcl_tf.training.trained_run import BEST, TrainedRun

SIGNATURE, PRIOR, SCORE = "generate", "prior", "score"
DESCRIPTION, KEYWORDS, CARD = "export.json", "keywords.txt", "README.md"
KEYWORDS_FOUND = ("stop_words", "parsed")  # what a manifest may say of how keywords were found, beside tagger and unit
FORMAT = 2  # 1: the signature `generate` alone


def export(run_dir: Path, checkpoint: str, out: Path, overwrite: bool) -> None:
    """Writes the folder `out`, whole or not at all.

    Raises:
      UserError: the run can't be used, or `out` can't be written or holds something else.
    """
    if out.exists() and not overwrite and (out / DESCRIPTION).is_file():
        raise UserError(f"--export={out}: exists already and is kept; pass --overwrite to replace it, or choose another folder")
    trained = TrainedRun(run_dir, checkpoint)
    with whole_or_nothing(out, DESCRIPTION, overwrite, "--export", "an exported model") as folder:
        with working("tracing the search and writing the model"):
            signatures = save_model(trained, folder)
        if brings_tokenizer(trained):
            shutil.copytree(trained.run.stored(TOKENIZER), folder / Path(TOKENIZER).name)
        else:
            shutil.copyfile(trained.run.stored(f"data/{VOCABULARY}"), folder / VOCABULARY)
        shutil.copytree(trained.run.stored(f"data/{GRAPH}"), folder / GRAPH)
        (folder / KEYWORDS).write_text("".join(f"{node}\n" for node in trained.graph.nodes), encoding="utf-8")
        (folder / DESCRIPTION).write_bytes(to_json(describe(trained, signatures), indent=2) + b"\n")
        (folder / CARD).write_text(model_card(trained), encoding="utf-8")
    print(f"wrote {out}")


def brings_tokenizer(trained: TrainedRun) -> bool:
    """Says whether the run's weights came with a tokeniser of their own; else its pieces are those of the prepared data."""
    return isinstance(trained.tokenizer, LibraryTokenizer)


def save_model(trained: TrainedRun, folder: Path) -> list[str]:
    """Writes the SavedModel, with a batch dimension of any size and only those variables that its signatures read. Returns their names."""
    system, sources = trained.system, source_specs(trained)
    target = {"target_ids": tf.TensorSpec([None, trained.inputs.target_length + 2], tf.int32, "target_ids")}

    def search(batch: Batch) -> dict[str, tf.Tensor]:
        ids, scores = system.generate(batch)
        return {"ids": ids, "scores": scores}

    def prior(batch: Batch) -> dict[str, tf.Tensor]:
        found = system.source_prior(batch)
        return {"mean": found.mean(), "deviation": found.stddev()}

    def score(batch: Batch) -> dict[str, tf.Tensor]:
        return {"log_probability": -system.target_nll(batch)}

    made = {SIGNATURE: whole_batches(search, sources, trained.inputs)}
    if system.has_latent:
        made[PRIOR] = whole_batches(prior, sources, trained.inputs)
    if system.is_trained:
        made[SCORE] = whole_batches(score, sources | target, trained.inputs)
    concrete = {name: function.get_concrete_function() for name, function in made.items()}
    module = tf.Module()
    for name, function in made.items():
        setattr(module, name, function)
    # Not the system itself: Keras would trace every layer of it, and store what only training needs.
    module.kept = list({id(v): v for function in concrete.values() for v in function.variables}.values())
    # Nobody trains what is exported, and its gradients would be traced too.
    tf.saved_model.save(module, str(folder), concrete, tf.saved_model.SaveOptions(experimental_custom_gradients=False))
    return list(made)


def source_specs(trained: TrainedRun) -> dict[str, tf.TensorSpec]:
    """Returns the inputs that a source has, by name."""
    inputs = trained.inputs
    shapes = {"source_ids": [None, inputs.source_length + 2], "source_nodes": [None, inputs.max_keywords], "source_unknown": [None]}
    return {name: tf.TensorSpec(shape, tf.int32, name) for name, shape in shapes.items()}


def whole_batches(compute: Callable[[Batch], dict[str, tf.Tensor]], specs: dict[str, tf.TensorSpec], inputs: Inputs):
    """Makes a `tf.function` of a computation on batches: its arguments are the tensors of `specs`, with any number of rows, even none."""
    fillers = {"source_ids": inputs.unknown_id, "source_nodes": -1, "source_unknown": 0, "target_ids": inputs.sep_id}

    @tf.function(autograph=False, input_signature=list(specs.values()))
    def run(*columns: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = tf.shape(columns[0])[0]
        asked = tf.maximum(rows, 1)  # a search divides by the number of texts, so one is made up where there is none
        batch = {"example_rows": tf.range(asked), "example_mask": tf.ones([asked])}
        for name, column in zip(specs, columns, strict=True):
            batch[name] = tf.pad(column, [[0, asked - rows], *[[0, 0]] * (column.shape.rank - 1)], constant_values=fillers[name])
        return {name: tensor[:rows] for name, tensor in compute(batch).items()}

    return run


def describe(trained: TrainedRun, signatures: Sequence[str]) -> dict:
    """Describes the model for programs that call it: inputs, outputs, special ids, how it decodes, and where it comes from."""
    inputs, s, manifest = trained.inputs, trained.settings, trained.manifest
    task = manifest["task"]
    length, more = task["source_length"], "pieces of the keywords, [SEP], " if s.append_keywords else ""
    return {
        "format": FORMAT, "signature": SIGNATURE, "signatures": signatures, "task": trained.run.config["task"], "language": inputs.language,
        "inputs": {
            "source_ids": f"[B, {inputs.source_length + 2}] int32: [CLS], at most {length} pieces, [SEP], {more}padding",
            "source_nodes": f"[B, {inputs.max_keywords}] int32: node numbers of the source's keywords, filled up with -1",
            "source_unknown": "[B] int32: how many of the source's keywords are no nodes",
            "target_ids": f"[B, {inputs.target_length + 2}] int32, of {SCORE} alone: [CLS], at most {inputs.target_length} pieces, [SEP], "
            "padding",
        },
        "outputs": {
            "ids": f"[B, {s.hypotheses}, {s.maximum_length}] int32: vocabulary ids, best first, padded; from "
            f"{inputs.vocabulary} on, minus that: the place in source_ids of an unknown word that is copied",
            "scores": f"[B, {s.hypotheses}] float32: log-probability divided by the length penalty",
            "mean, deviation": f"[B, Z] float32 each, of {PRIOR}: the prior of the latent variable",
            "log_probability": f"[B] float32, of {SCORE}: of the whole target and its [SEP], in nats, at the prior's mean",
        },
        "source_length": length, "source_keep": task["source_keep"], "target_length": inputs.target_length,
        "max_keywords": inputs.max_keywords, "uses_keywords": trained.system.uses_keywords,
        "beams": s.hypotheses, "minimum_length": s.minimum_length, "maximum_length": s.maximum_length, "length_penalty": s.length_penalty,
        "no_repeat_ngram": s.no_repeat_ngram,
        "lowercase": trained.tokenizer.lowercase, "normalization": normalization.name_in(manifest),
        "keyword_unit": manifest["settings"]["keyword_unit"], "tagger": manifest["tagger"],
        **{name: manifest[name] for name in KEYWORDS_FOUND if name in manifest},
        "special_ids": {"[PAD]": inputs.pad_id, "[UNK]": inputs.unknown_id, "[CLS]": inputs.cls_id, "[SEP]": inputs.sep_id},
        "pieces": Path(TOKENIZER).name if brings_tokenizer(trained) else VOCABULARY,
        "checkpoint": trained.checkpoint, "step": trained.step, "data": manifest["sha256"], "settings": s.to_dict(),
    }  # fmt: skip


def model_card(trained: TrainedRun) -> str:
    """Writes a model card: what the model is, what it was trained on, how good it is, and what it can't do."""
    s, manifest, config = trained.settings, trained.manifest, trained.run.config
    length, kept = manifest["task"]["source_length"], manifest["task"]["source_keep"]
    encoder = config["encoder"][:1].upper() + config["encoder"][1:]
    counts = ", ".join(f"{split} {manifest['splits'][split]['examples']:,}" for split in SPLITS)
    pieces = (
        f"`{Path(TOKENIZER).name}/` is the tokeniser of the published weights (transformers: AutoTokenizer); {DESCRIPTION} calls its start "
        "and end [CLS] and [SEP]"
        if brings_tokenizer(trained)
        else f"`{VOCABULARY}` is a WordPiece vocabulary"
    )
    files = "\n".join(f"- {name}: SHA-256 `{digest}`" for name, digest in sorted(manifest["raw_files"].items()))
    if made_by := manifest.get(GENERATED):
        files += f"\n\nThese texts are GENERATED: a program derived them from the grammar {made_by['grammar']} (seed {made_by['seed']})."
    settings = "\n".join(f"| {name} | {value} |" for name, value in sorted(s.to_dict().items()))
    return f"""# {s.model} for {config["task"]}

A reference implementation (hcl_tf) of Li et al., "Keywords and Instances: A Hierarchical Contrastive Learning Framework
Unifying Hybrid Granularities for Text Generation" (ACL 2022). Checkpoint {trained.checkpoint}, step {trained.step:,}.

## Use

With this package, texts in and out:

```python
import hcl_tf

model = hcl_tf.load("this folder")
model.generate(["a text", "another text"])
```

With TensorFlow alone, ids in and out:

```python
import tensorflow as tf

generate = tf.saved_model.load("this folder").signatures["{SIGNATURE}"]
found = generate(source_ids=..., source_nodes=..., source_unknown=...)  # {DESCRIPTION} gives shapes and special ids
```

{pieces}; `{KEYWORDS}` lists the keyword nodes. Keywords are lower-cased lemmas, taken by TextRank
from the part of the text that the model sees ({manifest["tagger"]}). A keyword that is no node counts in `source_unknown`.

## Data

{counts} examples. Prepared data: SHA-256 of the manifest `{manifest["sha256"]}`. Raw files:

{files}

## Scores

{_scores(trained)}

## Limits

- Language: {trained.inputs.language}. At most {length} pieces of a source are read (the {kept} is kept);
  outputs have {s.minimum_length} to {s.maximum_length} pieces.
- {encoder}. Outputs follow the training texts, their errors and biases included; nothing checks what they say.
- For research on text generation, not for advice to people.

## Settings

| setting | value |
| --- | --- |
{settings}
"""


def _scores(trained: TrainedRun) -> str:
    """Returns the test scores of this very checkpoint as a table, or a sentence that there are none."""
    name = "scores.test.json" if trained.checkpoint == BEST[0] else f"scores.test.{trained.checkpoint}.json"
    path = trained.run.path / name
    none = "Not evaluated before the export (python -m hcl_tf.evaluate)."
    if not path.is_file():
        return none
    try:
        found = from_json(path.read_bytes())
        scored = found["checkpoint"], found["step"], found["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); evaluate the run again, or remove the file") from error
    if scored != (trained.checkpoint, trained.step, trained.manifest["sha256"]):
        return none
    rows = [f"Test split, {found['examples']:,} examples.", "", "| score | value | 95% interval | signature |", "| --- | --- | --- | --- |"]
    for score, entry in found["scores"].items():
        rows.append(f"| {score} | {number(entry['value'])} | {interval(entry) or '-'} | {entry['signature'].replace('|', ', ')} |")
    return "\n".join(rows)
