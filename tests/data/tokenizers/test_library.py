"""T5's and GPT-2's tokenisers: the same ids as the libraries they come from, and back to text."""

import json
import shutil
from pathlib import Path

import published_models
import pytest
import sentencepiece
from tokenizers import ByteLevelBPETokenizer

from hcl_tf.data.tokenizers import library
from hcl_tf.data.tokenizers.library import LibraryTokenizer
from hcl_tf.errors import UserError

TEXTS = ["How can I lose weight?", "What is the  best way to learn\nTensorFlow?", "Fünf naïve Äpfel kosten 3.50 €!"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("published")
    made = {f"t5-{files}": published_models.t5(place / f"t5-{files}", files=files) for files in ("spiece", "json")}
    return made | {f"gpt2-{files}": published_models.gpt2(place / f"gpt2-{files}", files=files) for files in ("merges", "json")}


def copied(folder: Path, out: Path) -> Path:
    return Path(shutil.copytree(folder, out))


def tokenizer_of(folder: Path) -> LibraryTokenizer:
    config = json.loads((folder / "config.json").read_text())
    return library.published(folder, folder.name, config["vocab_size"], config.get("decoder_start_token_id"))


@pytest.mark.parametrize("files", ["spiece", "json"])
def test_t5_s_ids_are_sentencepiece_s(folders, files):
    tokenizer, peer = tokenizer_of(folders[f"t5-{files}"]), sentencepiece.SentencePieceProcessor(str(folders["t5-spiece"] / "spiece.model"))
    assert tokenizer.encode(TEXTS) == [peer.encode(text) for text in TEXTS]
    assert (tokenizer.pad_id, tokenizer.sep_id, tokenizer.unknown_id, tokenizer.cls_id) == (0, 1, 2, 0)
    assert len(tokenizer) == 400 + published_models.SPARE


@pytest.mark.parametrize("files", ["merges", "json"])
def test_gpt2_s_ids_are_its_byte_pairs(folders, files):
    folder = folders["gpt2-merges"]
    tokenizer = tokenizer_of(folders[f"gpt2-{files}"])
    peer = ByteLevelBPETokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    assert tokenizer.encode(TEXTS) == [peer.encode(text).ids for text in TEXTS]
    end = peer.token_to_id("<|endoftext|>")
    assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id) == (end, end, len(tokenizer))
    assert tokenizer.unknown_id not in (end, tokenizer.pad_id)


@pytest.mark.parametrize("name", ["t5-json", "gpt2-merges"])
def test_ids_come_back_as_text_without_frame_padding_and_spare_rows(folders, name):
    tokenizer = tokenizer_of(folders[name])
    for text, ids in zip(TEXTS[:2], tokenizer.encode(TEXTS[:2]), strict=True):
        framed = [tokenizer.cls_id, *ids, tokenizer.sep_id, tokenizer.pad_id, len(tokenizer) - (name == "t5-json")]
        assert tokenizer.decode(framed) == " ".join(text.split())


@pytest.mark.parametrize("name", ["t5-json", "gpt2-merges"])
def test_a_text_that_spells_a_special_token_is_text(folders, name):
    tokenizer = tokenizer_of(folders[name])
    (ids,) = tokenizer.encode(["a </s> b <pad> c <|endoftext|>"])
    assert not {tokenizer.sep_id, tokenizer.pad_id} & set(ids)


@pytest.mark.parametrize("name", ["t5-spiece", "t5-json", "gpt2-merges", "gpt2-json"])
def test_saved_it_is_the_same(folders, name, tmp_path):
    tokenizer = tokenizer_of(folders[name])
    tokenizer.save(tmp_path)
    again = library.load(tmp_path)
    assert again.digest() == tokenizer.digest()
    assert again.encode(TEXTS) == tokenizer.encode(TEXTS)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"no tokeniser that can be read"):
        library.load(tmp_path)


def test_digests_tell_tokenisers_apart(folders):
    digests = [tokenizer_of(folders[name]).digest() for name in ("t5-json", "t5-spiece", "gpt2-merges")]
    assert digests[0] == digests[1] != digests[2]


def test_spans_are_of_the_kept_pieces(folders):
    tokenizer = tokenizer_of(folders["gpt2-merges"])
    text = TEXTS[0]
    start, end = tokenizer.kept([text], 4, "head")[0][0]
    kept = tokenizer.encode([text])[0][:4]
    assert start == 0
    assert tokenizer.decode(kept).startswith(text[start:end].strip())
    assert tokenizer.kept([text], 100, "head")[0][0] is None


def test_more_pieces_than_the_model_are_refused(folders):
    with pytest.raises(UserError, match=r"its tokeniser has 400 pieces, but the model 399"):
        library.published(folders["t5-json"], "t5", 399, 0)


# -- byte pairs that lack a part ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("there", "missing"), [("vocab.json", "merges.txt"), ("merges.txt", "vocab.json")])
def test_one_file_of_two_is_named(folders, tmp_path, there, missing):
    folder = copied(folders["gpt2-merges"], tmp_path / "gpt2")
    (folder / missing).unlink()
    with pytest.raises(UserError, match=rf"^--pretrained=gpt2: gpt2 has {there} without {missing}, .*; fetch {missing} too"):
        tokenizer_of(folder)


@pytest.mark.parametrize("kept", [1, 50])
def test_merges_that_were_cut_short_are_noticed(folders, tmp_path, kept):
    folder = copied(folders["gpt2-merges"], tmp_path / "gpt2")
    merges = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    (folder / "merges.txt").write_text("\n".join(merges[:kept]) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"^--pretrained=gpt2: .* pieces come from no merge, such as .*; fetch the tokeniser again"):
        tokenizer_of(folder)


def test_two_vocabularies_have_to_agree(folders, tmp_path):
    folder = copied(folders["gpt2-json"], tmp_path / "gpt2")
    shutil.copy(folders["gpt2-merges"] / "vocab.json", folder)
    assert tokenizer_of(folder).digest() == tokenizer_of(folders["gpt2-json"]).digest()
    numbers = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    numbers["a"], numbers["b"] = numbers["b"], numbers["a"]
    (folder / "vocab.json").write_text(json.dumps(numbers))
    with pytest.raises(UserError, match=r"^--pretrained=gpt2: vocab.json and its tokenizer.json name different pieces; fetch both again"):
        tokenizer_of(folder)
