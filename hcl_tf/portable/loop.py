"""Trains with exported programs as training/loop.py does: with the same batches, losses, choice of the best weights, and outputs.

It does not go on after a kill, and writes neither checkpoints nor TensorBoard events: a run takes minutes, and its results are small.
"""

import dataclasses
import hashlib
import io
import itertools
import json
import math
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import safetensors.numpy

from hcl_tf.config import SPLITS
from hcl_tf.data.batching.batches import Batches
from hcl_tf.data.batching.distinct_texts import DistinctTexts
from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.keywords.graph import KeywordGraph
from hcl_tf.data.keywords.subgraph import SubgraphSampler
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.errors import UserError
from hcl_tf.files.json_text import to_json
from hcl_tf.files.whole_file import write_whole
from hcl_tf.portable import packed_rows, starting_weights
from hcl_tf.portable.bundle import DIAGNOSTICS, OUTPUTS, WEIGHTS, Bundle
from hcl_tf.portable.programs import Executable, Values, copied, device_name
from hcl_tf.progress import bar, track, working
from hcl_tf.training.diagnostics import means_of, summarise
from hcl_tf.training.environment import describe_environment
from hcl_tf.training.run_folder import DONE, ENVIRONMENT, METRICS, SPEED

AHEAD = 8  # batches made before they are needed
REMEDY = "export again with a smaller --learning_rate or a longer --warmup_steps"


def train(bundle: Bundle, out: Path, minutes: float = 0.0) -> dict:
    """Trains a system, and writes metrics, environment, outputs of validation and test, and diagnostics of test examples; of a pretraining,
    the best weights in place of outputs and diagnostics.

    Args:
      minutes: training stops after so many, counted from the first step; 0: it does not.

    Returns:
      The content of done.json, which is written last.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / ENVIRONMENT, to_json(describe_environment([device_name()]), indent=2) + b"\n")
    except OSError as error:
        raise UserError(f"--out={out}: can't be written ({error.strerror}); choose another folder") from error
    run = _Run(bundle)
    metrics = run.train(minutes)
    for name, lines in ((METRICS, metrics), (SPEED, run.speed)):
        write_whole(out / name, b"".join(to_json(line) + b"\n" for line in lines))
    if "search" in run.programs:
        _write_outputs(run, out)
    else:
        write_whole(out / WEIGHTS, safetensors.numpy.save({name: np.asarray(value) for name, value in sorted(run.best.items())}))
    write_whole(out / DONE, to_json(run.done, indent=2) + b"\n")
    print(f"wrote results of {bundle.system} to {out}: {json.dumps(run.done)}", flush=True)
    return run.done


def _write_outputs(run: "_Run", out: Path) -> None:
    """Writes what the best weights make of validation and test."""
    run.variables |= run.best
    if "prepare" in run.programs:
        run.programs["prepare"](run.variables, {})
    for split, most in (("validation", run.about["looked_at"]), ("test", 0)):
        _save(out / OUTPUTS.format(split), {"ids": run.decode(split, most)})
    _save(out / DIAGNOSTICS, run.diagnose("test"))


class _Run:
    """A training in progress.

    Attributes:
      done: the content that done.json will have. speed: lines of speed.jsonl.
      variables: by name. best: those that decoding reads, as they were at the best validation.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.about, self.settings = bundle.description, bundle.description["config"]["settings"]
        began = time.monotonic()
        with working(f"compiling {', '.join(self.about['programs'])}"):
            self.programs = {name: Executable(*bundle.program(name)) for name in self.about["programs"]}
        print(f"{bundle.system}: compiled {', '.join(self.programs)} for {device_name()} in {time.monotonic() - began:.1f} s", flush=True)
        self.variables = _begin(bundle, self.settings["seed"])
        splits = packed_rows.SPLITS if packed_rows.is_packed(self.about["batches"]) else SPLITS
        self.splits = {split: _batches(bundle, split) for split in splits}
        read = ("prepare", "validate", "examine", "search")
        self._of_model = {v for name in read if name in self.programs for v in self.about["programs"][name]["variables"]}
        self.best: Values = {}
        self._texts: DistinctTexts | None = None
        self.speed: list[dict] = []
        self.done = {
            "system": bundle.system,
            "bundle": bundle.digest,
            "ended": "",
            "step": 0,
            "best_step": 0,
            "best_loss": math.inf,
            "best_nll": math.inf,
        }

    def train(self, minutes: float) -> list[dict]:
        """Trains to the end. Returns the lines of metrics.jsonl."""
        last = min(self.settings["max_steps"] or math.inf, self.settings["epochs"] * len(self.splits["train"]))
        first = self._validate(0, 0)
        with bar("training", int(last), " steps") as progress:
            return [first, *self._steps(last, minutes, progress)]

    def _steps(self, last: float, minutes: float, progress) -> list[dict]:
        """Takes all steps. Returns the lines of metrics.jsonl behind that of the validation before training."""
        s, per_epoch = self.settings, len(self.splits["train"])
        lines, window, bad = [], [], 0
        began = time.monotonic()
        validating = 0.0  # seconds
        batches = ((epoch, batch) for epoch in itertools.count() for batch in _ahead(self.splits["train"], epoch))
        for step, (epoch, batch) in enumerate(batches, 1):
            if epoch and step % per_epoch == 1 % per_epoch:
                self._refresh(epoch)
            window.append(self.programs["step"](self.variables, batch | {"step": np.int32(step - 1)})["step"])
            now, whole = time.monotonic(), step % per_epoch == 0
            progress.update(1)
            if step % s["log_every"] == 0:
                lines.append({"kind": "train", "step": step, "epoch": epoch, **self._means(window, step)})
                window = []
                rate = step * s["batch_size"] / (time.monotonic() - began - validating)
                self.speed.append({"step": step, "examples_per_second": round(rate, 2)})
                progress.set_postfix_str(f"loss {lines[-1]['objective']:.3f}, {rate:.0f} examples/s", refresh=False)
            ended = ("steps" if last == s["max_steps"] else "epochs") if step >= last else ""
            ended = ended or ("time" if minutes and now - began > 60 * minutes else "")
            if ended or (step % s["validate_every"] == 0 if s["validate_every"] else whole):
                if window:
                    self._means(window, step)  # for its check: these steps may be in no line
                paused = time.monotonic()
                lines.append(self._validate(step, epoch + whole))
                validating += time.monotonic() - paused
                bad = 0 if self._keep(lines[-1]) or step <= self.about["patience_from"] else bad + 1
                ended = "patience" if s["patience"] and bad >= s["patience"] else ended
            if ended:
                self.done |= {"ended": ended, "step": step, "seconds": round(time.monotonic() - began, 1)}
                break
        return lines

    def _refresh(self, epoch: int) -> None:
        """Computes node features of the weights as they are, where the epoch that begins has new ones, as `System.before_epoch` does."""
        r = self.about.get("refresh", {"every": 0})  # pretrainings, and bundles of version 0.2.0 and earlier, have none
        if not r["every"] or epoch % r["every"]:
            return
        if self._texts is None:
            b, arrays = self.about["batches"], self.splits["train"].columns[0].arrays
            self._texts = DistinctTexts(arrays, b["pad_id"], b["nodes"])
        ids, found = self._texts.ids.astype(np.int32), []
        for start in track(range(0, len(ids), r["rows"]), "encoding texts", unit=" blocks"):
            rows = np.arange(start, start + r["rows"]) % len(ids)
            found.append(np.asarray(self.programs["vectors"](self.variables, {"ids": ids[rows]})["vectors"]))
        values = self._texts.node_features(np.concatenate(found)[: len(ids)])
        for key, value in zip(("features", "mean", "scale"), values, strict=True):
            self.variables[r["variables"][key]] = jax.device_put(value.astype(np.float32))

    def _means(self, window: list[jax.Array], step: int) -> dict[str, float]:
        """Computes the means of the steps since the last line. This waits for the device.

        Raises:
          UserError: a value is not finite.
        """
        means = np.stack([np.asarray(scalars) for scalars in window]).astype(np.float64).mean(0)
        if not np.isfinite(means).all():
            raise UserError(f"step {step}: a loss or norm is no finite number; {REMEDY}")
        return dict(zip(self.about["figures"]["step"], means.tolist(), strict=True))

    def _validate(self, step: int, epoch: int) -> dict:
        """Validates. Returns a line of metrics.jsonl."""
        if "prepare" in self.programs:
            self.programs["prepare"](self.variables, {})
        names, parts = self.about["figures"], []
        for batch in _held_out(self.splits["validation"], self.settings["validate_examples"], "validating"):
            found = self.programs["validate"](self.variables, batch)
            parts.append(tuple(dict(zip(names[kind], np.asarray(found[kind]).tolist(), strict=True)) for kind in ("sums", "counts")))
        means = means_of(parts, self.about["per"], self.about["final_weights"])
        if not math.isfinite(means["loss"]):
            raise UserError(f"step {step}: the validation loss is {means['loss']}; {REMEDY}")
        diagnostics = summarise(self.diagnose("validation", self.about["examined"])) if "examine" in self.programs else {}
        print(f"step {step}: validation loss {means['loss']:.3f}, NLL {means['nll']:.3f}", flush=True)
        found = {"kind": "validation", "step": step, "epoch": epoch, **means}
        return found | {f"examined/{name}": value for name, value in diagnostics.items()}

    def _keep(self, found: dict) -> bool:
        """Keeps the weights if the loss is the smallest so far. Returns whether it is."""
        self.done["best_nll"] = min(self.done["best_nll"], found[self.about.get("output_nll", "nll")])  # version 0.2.0 named none
        if found["loss"] >= self.done["best_loss"]:
            return False
        self.best = copied({name: self.variables[name] for name in self._of_model})
        self.done |= {"best_loss": found["loss"], "best_step": found["step"]}
        return True

    def diagnose(self, split: str, most: int = 0) -> dict[str, np.ndarray]:
        """Computes diagnostics of a split's examples, or of its first `most`, as `Validation.diagnose` does."""
        found: dict[str, list[np.ndarray]] = {}
        for batch in _held_out(self.splits[split], most, "diagnosing") if "examine" in self.programs else ():
            real = batch["example_mask"] > 0
            for name, values in self.programs["examine"](self.variables, batch).items():
                found.setdefault(name, []).append(np.asarray(values)[real])
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def decode(self, split: str, most: int = 0) -> np.ndarray:
        """Decodes a split, or its first `most` examples. Returns the ids of the best hypotheses, [n, T]."""
        found = []
        batches = dataclasses.replace(self.splits[split], batch_size=self.about["batches"]["search_batch_size"])
        for batch in _held_out(batches, most, f"decoding {split}"):
            ids = np.asarray(self.programs["search"](self.variables, batch)["ids"])
            found.append(ids[batch["example_mask"] > 0])
        return np.concatenate(found)[: most or None]


def _begin(bundle: Bundle, seed: int) -> Values:
    """Returns every variable at its start; what is drawn depends on the seed and the variable's name."""
    values = {}
    for name, start in bundle.description["variables"].items():
        shape, dtype = tuple(start["shape"]), np.dtype(start["dtype"])
        if start["kind"] == "constant":
            value = np.full(shape, start["value"], dtype)
        elif start["kind"] == "stored":
            value = bundle.array(start["key"]).astype(dtype)
        else:
            key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
            value = starting_weights.draw(start, shape, np.random.default_rng([seed, key]))
        values[name] = jax.device_put(value)
    return values


def _batches(bundle: Bundle, split: str) -> Batches:
    """Makes the batches of a split, as `training.launch.assemble` does."""
    b = bundle.description["batches"]
    if packed_rows.is_packed(b):
        return packed_rows.batches(bundle, b, split)
    arrays = SplitArrays(**{name: bundle.array(key).astype(np.int32) for name, key in b["columns"][split].items()})
    indptr, indices = ([bundle.array(key).astype(kind) for key in b[name]] for name, kind in (("indptr", np.int64), ("indices", np.int32)))
    nothing = np.zeros(b["nodes"], np.int32)
    graph = KeywordGraph(tuple(map(str, range(b["nodes"]))), nothing, nothing, tuple(indptr), tuple(indices), (nothing, nothing))
    data = SimpleNamespace(max_keywords=b["max_keywords"], whole_graph=graph.table(b["degree"]))
    if split != "train":
        return pair_batches(data, arrays, b["held_out_batch_size"], impostors=b["impostors"])
    drawn = b.get("sampler", b)  # format 1 has the sampler's values beside the others
    sampler = drawn and SubgraphSampler(graph, tuple(drawn["fanout"]), drawn["node_budget"], drawn["impostors"])
    return pair_batches(data, arrays, b["batch_size"], b["seed"], sampler, b["impostors"])


def _ahead(batches: Batches, epoch: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields the batches of an epoch; threads make them while the device works."""
    rows = batches.plan(epoch)
    with ThreadPoolExecutor(2) as pool:
        waiting = []
        for number in range(len(rows)):
            waiting.append(pool.submit(batches.make, rows[number], epoch, number))
            if len(waiting) > AHEAD:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def _held_out(batches: Batches, most: int, what: str) -> Iterable[dict[str, np.ndarray]]:
    """Returns the batches of a split in its order, or as few as hold `most` examples, and shows how many of them are done with `what`."""
    rows = batches.plan(None)
    wanted = min(-(-(most or batches.count) // batches.batch_size), len(rows))
    return (batches.make(rows[number], 0, number) for number in track(range(wanted), what, unit=" batches"))


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_whole(path, buffer.getvalue())
