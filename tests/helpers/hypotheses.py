"""Reading what a search returns."""


def strip(ids, end_id: int) -> list[int]:
    """One hypothesis' tokens without its padding, from one row of `Hypotheses.ids`."""
    ids = [int(i) for i in ids]
    return ids[: ids.index(end_id)] if end_id in ids else ids
