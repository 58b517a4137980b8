"""Appends its keywords to a source, for systems that read keywords as words (`--append_keywords`).

    [CLS] pieces of the source [SEP] pieces of its keywords [SEP]

The source keeps all the pieces that other systems see, and the suffix comes on top, so that a comparison is about keywords and not about
what was cut for them. Prepared data and raw texts go through the same function.
"""

from collections.abc import Sequence

from hcl_tf.data.tokenizers.wordpiece import Tokenizer

PIECES_A_KEYWORD = 4


def suffix_length(max_keywords: int) -> int:
    """Returns how many pieces a suffix may have: the [SEP] between, and the keywords' pieces."""
    return 1 + PIECES_A_KEYWORD * max_keywords


def append(sources: Sequence[list[int]], keywords: Sequence[Sequence[str]], tokenizer: Tokenizer, most: int) -> list[list[int]]:
    """Appends the pieces of its keywords to each source's pieces (all without special ones).

    Args:
      keywords: of each source, as the graph names its nodes, best first. A source without any stays as it is.
      most: pieces of a suffix (`suffix_length`); longer ones are cut.
    """
    names = sorted({name for found in keywords for name in found})
    pieces = dict(zip(names, tokenizer.encode(names), strict=True)) if names else {}
    more = [[piece for name in found for piece in pieces[name]] for found in keywords]
    return [ids + ([tokenizer.sep_id, *appended][:most] if appended else []) for ids, appended in zip(sources, more, strict=True)]
