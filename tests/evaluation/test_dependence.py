"""Which examples are one unit: those of one source, and of paraphrases all of one cluster."""

from hcl_tf.evaluation.dependence import units_of


def test_paraphrases_that_share_a_text_are_one_unit_also_through_others():
    pairs = [("a", "b"), ("c", "d"), ("B ", "e"), ("f", "E"), ("d", "g")]
    assert units_of(pairs, "qqp") == [0, 1, 0, 0, 1]


def test_of_other_tasks_only_the_source_counts():
    pairs = [("how are you", "fine"), ("and you", "fine"), ("How are you", "so so")]
    assert units_of(pairs, "douban") == [0, 1, 0]


def test_nothing_is_said_where_all_are_apart():
    assert units_of([("a", "b"), ("c", "d")], "qqp") is None
    assert units_of([], "douban") is None
