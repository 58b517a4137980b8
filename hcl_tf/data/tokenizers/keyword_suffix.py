"""A source with its keywords behind it: what a system reads that is given the keywords as words (`--append_keywords`).

    [CLS] pieces of the source [SEP] pieces of its keywords [SEP]

The source keeps all the pieces that other systems see, and the keywords have room of their own behind them, so that a comparison is about
keywords and not about what was cut for them. Prepared data and raw texts go through the same function.
"""

from collections.abc import Sequence

from hcl_tf.data.tokenizers.wordpiece import Tokenizer

PIECES_A_KEYWORD = 4


def suffix_length(max_keywords: int) -> int:
    """How many pieces longer a source may get: the [SEP] between, and the keywords' pieces."""
    return 1 + PIECES_A_KEYWORD * max_keywords


def append(sources: Sequence[list[int]], keywords: Sequence[Sequence[str]], tokenizer: Tokenizer, most: int) -> list[list[int]]:
    """Each source's pieces (without special ones) with its keywords' appended.

    Args:
      keywords: of each source, as the graph names its nodes, best first. A source without any stays as it is.
      most: `suffix_length`; what is longer is cut.
    """
    names = sorted({name for found in keywords for name in found})
    pieces = dict(zip(names, tokenizer.encode(names), strict=True)) if names else {}
    more = [[piece for name in found for piece in pieces[name]] for found in keywords]
    return [ids + ([tokenizer.sep_id, *appended][:most] if appended else []) for ids, appended in zip(sources, more, strict=True)]
