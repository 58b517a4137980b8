"""What a file's first lines say about its format, also where several formats look alike."""

import random

import pytest

from hcl_tf.data.corpora import formats
from hcl_tf.data.corpora.examples import QuestionPair
from hcl_tf.data.corpora.formats import READERS, ReadOptions
from hcl_tf.errors import UserError

HUB = ["question1", "question2", "label", "idx"]
SEGMENTED = "你 好 啊\t去 哪 里\t我 去 上班"


def kind(tmp_path, content, **options):
    path = tmp_path / "raw.txt"
    path.write_text(content, encoding="utf-8")
    return formats.recognise(path, ReadOptions(**options))


KINDS = {
    "the hub's copy of GLUE": ("question1,question2,label,idx\na?,b?,1,0\n", "quora"),
    "the same as TSV": ("question1\tquestion2\tlabel\tidx\na?\tb?\t1\t0\n", "quora"),
    "the hub's test split": ("question1,question2,label,idx\na?,b?,-1,0\nc?,d?,-1,1\n", "unlabelled"),
    "Kaggle's training file": ('"id","qid1","qid2","question1","question2","is_duplicate"\n"0","1","2","a?","b?","0"\n', "quora"),
    "Kaggle's test file": ('"test_id","question1","question2"\n0,"a?","b?"\n', "unlabelled"),
    "question pairs": ("1\tHow ?\tIn what way ?\t5\n0\tWhy ?\tWho ?\t6\n", "pairs"),
    "question pairs in Chinese": ("1\t怎么 去\t怎样 去\t5\n0\t为什么\t谁\t6\n", "pairs"),
    "question pairs with other ids": ("1\tHow ?\tIn what way ?\tdev-5\n0\tWhy ?\tWho ?\tdev-6\n", "pairs"),
    "Douban": (f"1\t{SEGMENTED}\n0\t{SEGMENTED}\n", "douban"),
    "Douban with one turn": ("1\t你 好 啊\t我 去 上班\n0\t你 好 啊\t哈 哈\n", "douban"),
    "Douban with a number as response": (f"1\t{SEGMENTED}\n0\t你 好\t多 少\t666\n1\t{SEGMENTED}\n", "douban"),
    "Douban that begins with a wrong one": (f"0\t你 好\t多 少\t666\n1\t{SEGMENTED}\n1\t{SEGMENTED}\n", "douban"),
    "Group-wise's Douban": ("1 你 好\t在\n2 你 好 __EOT__ 在\t吗\n", "groupwise"),
    "a table with label": ("label,source,target\n1,a,b\n", "table"),
    "JSONL": ('\n{"source": "a", "target": "b"}\n', "jsonl"),
}


@pytest.mark.parametrize("case", KINDS)
def test_formats_that_look_alike_are_told_apart(tmp_path, case):
    content, expected = KINDS[case]
    assert kind(tmp_path, content) == expected


def test_the_hubs_columns_may_stand_in_any_order(tmp_path):
    for seed in range(12):
        columns = random.Random(seed).sample(HUB, len(HUB))
        values = {"question1": '"What, now?"', "question2": "How?", "label": "1", "idx": "7"}
        content = ",".join(columns) + "\n" + ",".join(values[name] for name in columns) + "\n"
        assert kind(tmp_path, content) == "quora"
        assert list(formats.read(tmp_path / "raw.txt", ReadOptions())) == [QuestionPair("7", "What, now?", "How?", True)]


@pytest.mark.parametrize("content", [
        "1\tWho is it ?\tIt is me .\n0\tWho is it ?\tYes , a lot .\n", "hello\tworld\ngood\tday\n",
        "2 ways out\tThere are two\n" + "hello\tworld\n" * 9, "7 wonders\tof the\tworld\n",  # numbers that belong to the text
    ],
)  # fmt: skip
def test_what_could_be_several_formats_is_refused_and_the_flags_are_named(tmp_path, content):
    with pytest.raises(UserError, match=r"raw\.txt:1: no known format.*--fields=source:1,target:2.*--format") as caught:
        kind(tmp_path, content)
    assert str(tmp_path) in str(caught.value)


def test_the_user_may_name_the_format(tmp_path):
    content = "1\tWho is it ?\tIt is me .\n0\tWho is it ?\tYes , a lot .\n"
    assert kind(tmp_path, content, format="douban") == "douban"
    (example,) = formats.read(tmp_path / "raw.txt", ReadOptions(format="douban"))
    assert (example.source, example.target, example.negatives) == ("Who is it ?", "It is me .", ("Yes , a lot .",))


@pytest.mark.parametrize("name", READERS)
def test_a_format_that_does_not_fit_is_refused_by_name(tmp_path, name):
    path = tmp_path / "raw.txt"
    path.write_text("just some prose\nand more of it\n")
    with pytest.raises(UserError) as caught:
        list(formats.read(path, ReadOptions(format=name)))
    assert str(path) in str(caught.value)
