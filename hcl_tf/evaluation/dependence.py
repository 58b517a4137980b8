"""Which scored examples belong together, because they share a text."""

from collections.abc import Iterable

from hcl_tf.data.corpora.qqp import Clusters


def units_of(pairs: Iterable[tuple[str, str]], paraphrases: bool) -> list[int] | None:
    """Numbers the units that examples are of, in the order of their first examples.

    Examples of one source are one unit. Where source and target mean the same, as questions do, those that share either text are, also
    through others: that is a cluster of duplicates. Of other tasks a target may be said to many sources, which makes them no unit.

    Args:
      pairs: source and target of each example.

    Returns:
      A number for each example; None where each is a unit of its own.
    """
    pairs, clusters = list(pairs), Clusters()
    if paraphrases:
        for source, target in pairs:
            clusters.join(source, target)
    names = [clusters.find(source) for source, _ in pairs]
    number = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return [number[name] for name in names] if len(number) < len(names) else None
