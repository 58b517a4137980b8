"""Reads a data set of TensorFlow Datasets (tensorflow-datasets), which its library downloads once and then keeps on disk.

    python -m hcl_tf.prepare --task=qqp --raw=tfds:glue/qqp

Nothing here knows a data set by name. Its features are taken as the columns of a table, so what a table with a header may be
(recognition.py) a data set may be too: GLUE's question pairs as they are, others by --fields.
"""

import importlib
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from absl import logging

from hcl_tf.data.corpora import formats, recognition
from hcl_tf.data.corpora.formats import ReadOptions, Table
from hcl_tf.data.corpora.raw_splits import STEMS, RawSplit
from hcl_tf.errors import UserError, refusal_of_disk
from hcl_tf.files.hub import connects

if TYPE_CHECKING:
    import tensorflow_datasets

SCHEME = "tfds:"
FOLDER = "TFDS_DATA_DIR"  # the library's own name for the variable that says where data sets lie
# As in requirements.txt. Without them pip takes a version with which the library can't be imported, and leaves out what downloads need.
NEEDED = ("tensorflow-metadata>=1.17.3,<1.18", "importlib_resources>=6,<8")
Record = tuple[int, dict[str, Any]]


def is_named(raw: Path) -> bool:
    """Says whether a value of --raw names a data set of this library."""
    return str(raw).startswith(SCHEME)


def open_splits(raw: str, options: ReadOptions) -> dict[str, RawSplit]:
    """Returns the splits of a data set, after downloading it where it is not on disk.

    Args:
      raw: `tfds:` and the library's name of a data set: `tfds:glue/qqp`, or with its version `tfds:glue/qqp:2.0.0`.
      options: --fields, --limit, what to do about bad rows.

    Raises:
      UserError: the library can't be imported, or has no such data set; it is not on disk and can't be downloaded; it has no training
        split, or none of the features that are needed.
    """
    if named := next((flag for flag in ("format", "encoding") if getattr(options, flag)), None):
        raise UserError(f"--{named} is of raw files, and --raw={raw} is none; drop the flag")
    name, folder = raw.removeprefix(SCHEME), Path(os.environ.get(FOLDER) or Path("~", "tensorflow_datasets")).expanduser()
    library = _library(raw)
    try:
        builder = library.builder(name, data_dir=folder)
    except Exception as error:  # of many kinds: an unknown name, part of a name or version, or a namespace that needs another library
        raise UserError(
            f"--raw={raw}: TensorFlow Datasets can't open it ({_line(error)}); give a name of its catalogue, NAME or NAME/CONFIG, "
            "without a split: all that it has are read"
        ) from error
    kind, columns = _kind(raw, builder, options)
    if not builder.info.splits:
        _download(raw, name, library, builder, folder)
    found = {}
    for split, theirs in _by_split(raw, builder.info.splits).items():
        place, part = Path(f"{SCHEME}{builder.info.full_name}/{theirs}"), builder.info.splits[theirs]
        records = partial(_records, library, builder, theirs, place)
        of_split = "unlabelled" if kind == "quora" and _has_no_labels(records()) else kind
        rows = formats.read(place, replace(options, format=of_split, table=Table(columns, records())))
        files = [Path(path) for path in part.filepaths]
        found[split] = RawSplit(place, str(place), of_split, rows, files, f"{part.num_examples:,} pairs without a label")
    return found


def _library(raw: str) -> ModuleType:
    """Imports the library, which takes a second and is needed for nothing else."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)  # where it can't be imported it logs a traceback, and raises nothing
    try:
        importlib.import_module("tensorflow_datasets")
        return importlib.import_module("tensorflow_datasets.public_api")  # raises what is wrong
    except Exception as error:  # ImportError, or protobuf's own where tensorflow-metadata is too new for it
        needed = " ".join(f"'{package}'" for package in NEEDED)
        raise UserError(
            f"--raw={raw}: TensorFlow Datasets can't be imported ({_line(error)}); mend it with: {sys.executable} -m pip install {needed}"
        ) from error
    finally:
        logging.set_verbosity(verbosity)


def _download(raw: str, name: str, library: ModuleType, builder: "tensorflow_datasets.core.DatasetBuilder", folder: Path) -> None:
    """Downloads a data set into the library's folder. Raises `UserError`, with the way round, where that can't be."""
    way_round = (
        f"where there is a network run: python -c \"import tensorflow_datasets as tfds; tfds.builder('{name}', data_dir='FOLDER')"
        f'.download_and_prepare()", then bring FOLDER here and set {FOLDER}=FOLDER'
    )
    try:
        # The library itself tries again for minutes before it says that there is no network.
        hosts = {f"{url.scheme}://{url.netloc}" for url in map(urlsplit, builder.url_infos or ())}
        if hosts and not any(map(connects, hosts)):
            raise ConnectionError("no network")
        print(f"  downloading {name} into {folder}", flush=True)
        if not sys.stderr.isatty():
            library.disable_progress_bar()
        builder.download_and_prepare()
    except Exception as error:  # of the network, of checksums, of data that must be fetched by hand, ...
        if refusal_of_disk(error):
            raise
        raise UserError(f"--raw={raw}: it is not in {folder} and can't be downloaded ({_line(error)}); {way_round}") from error


def _by_split(raw: str, names: Iterable[str]) -> dict[str, str]:
    """Returns the data set's names of the splits by ours."""
    names = list(names)
    found = {}
    for split, stems in STEMS.items():
        matching = [name for name in names if name.lower() in stems]
        if len(matching) > 1:
            raise UserError(f"--raw={raw}: {' and '.join(sorted(matching))} both claim to be the {split} split; give another data set")
        if matching:
            found[split] = matching[0]
    if "train" not in found:
        raise UserError(
            f"--raw={raw}: it has no training split, only {', '.join(sorted(names))}; give another data set, or write it to files"
        )
    return found


def _kind(raw: str, builder: "tensorflow_datasets.core.DatasetBuilder", options: ReadOptions) -> tuple[str, list[str]]:
    """Returns which table a data set is, and its columns."""
    features = list(getattr(builder.info.features, "keys", list)())
    columns = [name.lower() for name in features]
    kind = recognition.kind_of_header(columns, partial(formats.field_names, options=options))
    if kind in (None, "unlabelled"):
        raise UserError(
            f"--raw={raw}: its features are {', '.join(features) or 'without names'}; needed are question1, question2 and label, as in "
            f"{SCHEME}glue/qqp, or sentence1 to sentence5, or a source and a target, which --fields=source:NAME,target:NAME names"
        )
    return kind, columns


def _has_no_labels(records: Iterator[Record]) -> bool:
    """Says whether the pairs at the beginning all have the label that means none."""
    found = islice(records, recognition.LOOKED_AT)
    return {row[name] for _, row in found for name in recognition.LABELS if name in row} == {recognition.UNLABELLED}


def _records(library: ModuleType, builder: "tensorflow_datasets.core.DatasetBuilder", split: str, place: Path) -> Iterator[Record]:
    """Yields the number, from 1, and {feature in lower case: value} of each row, in the order of the files."""
    import tensorflow as tf

    one_file_at_a_time = library.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    number = 0
    try:
        dataset = builder.as_dataset(split=split, shuffle_files=False, read_config=one_file_at_a_time)
        for number, row in enumerate(library.as_numpy(dataset), 1):
            yield number, {name.lower(): _plain(value) for name, value in row.items()}
    except tf.errors.OpError as error:
        raise UserError(f"{place}:{number + 1}: can't be read ({_line(error)}); remove {builder.data_dir} and fetch it again") from error


def _plain(value: Any) -> Any:
    """Returns what a field of a raw file would have: texts, lists of texts, and numbers as texts."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, np.generic) else value


def _line(error: Exception) -> str:
    """Returns the kind and the first line of an error of a library, which may go on for hundreds."""
    first = (str(error).strip().splitlines() or [""])[0].rpartition('}": ')[2]  # behind it stand the arguments, with folders
    return f"{type(error).__name__}: {first[:200]}" if first else type(error).__name__
