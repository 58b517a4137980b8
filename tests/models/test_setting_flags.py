"""Settings as flags: every one there, in the help by the systems that take it, and read from files as training reads them."""

import re

import pytest
from absl import flags
from conftest import entry_point

from hcl_tf.errors import UserError
from hcl_tf.models import registry, setting_flags
from hcl_tf.settings import RENAMED

NAMES = {name for model in registry.SYSTEMS for name in registry.names_of(model)}


def test_every_setting_is_a_flag_of_the_command_that_defines_it():
    train = entry_point("train")
    own = {flag.name for flag in flags.FLAGS.get_key_flags_for_module("hcl_tf.train")}
    assert own >= NAMES == train.FLAGS.settings.keys() | {"preset"} == setting_flags.all_settings().keys() | {"preset"}
    assert {flag.default for name, flag in flags.FLAGS._flags().items() if name in NAMES} == {None}, "so that presets apply"


def test_a_command_that_only_imports_them_shows_none():
    entry_point("report")
    assert not NAMES & set(dir(flags.FLAGS))


@pytest.fixture(scope="module")
def groups() -> dict[str, str]:
    """Heading of --helpfull -> the text below it, in lines of any length."""
    values = flags.FlagValues()
    setting_flags.define_training(values)
    _, *parts = re.split(r"^(\S.*):$", values.get_help(), flags=re.M)
    sections = zip(parts[::2], parts[1::2], strict=True)
    return {heading: " ".join(text.split()) for heading, text in sections if heading.startswith("settings: ")}


def test_the_long_help_groups_settings_by_the_systems_that_take_them(groups):
    for heading, text in groups.items():
        systems = re.fullmatch(r"settings: .+ \((.*)\)", heading)[1]
        of_all = systems == "every system"
        for name in re.findall(r"--(?:\[no\])?(\w+):", text):
            name = RENAMED.get(name, name)
            assert registry.systems_with(name) == (list(registry.SYSTEMS) if of_all else systems.split(", ")), name
    shown = [name for text in groups.values() for name in re.findall(r"--(?:\[no\])?(\w+):", text)]
    assert sorted(shown) == sorted((NAMES - {"preset"}) | RENAMED.keys()), "each once"
    assert "settings: HCL (hcl, bert_cvae, bert_cvae_ins)" in groups
    assert "settings: Group-wise (groupwise)" in groups
    assert "--seed:" in groups["settings: run (every system)"]


@pytest.mark.parametrize(
    ("heading", "said"),
    [
        ("settings: decoding (every system)", "--beams: [P] Beam size. [4 hypotheses] (an integer)"),
        ("settings: latent variable (hcl, bert_cvae, bert_cvae_ins, cvae)",
         "dimensions of the latent variable and of the keyword graph. [paper 16, small 16, tiny 32 dimensions]"),
        ("settings: HCL (hcl, bert_cvae, bert_cvae_ins)",
         "--weight_key: [P] Weight of the keyword contrast L_key (eq 10). [1.0] (a number)"),
        ("settings: HCL (hcl, bert_cvae, bert_cvae_ins)",
         "--ablate: <graph|keyword|mahalanobis>: Table 2: leave out graph, keyword or mahalanobis. [none]"),
        ("settings: Group-wise (groupwise)", "[paper 5000, small 1000, tiny 100 steps]"),
    ],
)  # fmt: skip
def test_the_help_says_default_unit_and_what_the_paper_states(groups, heading, said):
    assert said in groups[heading]


def test_every_setting_says_its_default_and_its_unit_and_p_where_the_paper_states_it(groups):
    text = " ".join(groups.values())
    for name, item in setting_flags.all_settings().items():
        (found,) = re.findall(rf"--(?:\[no\])?{name}: (.*?)(?= --(?:\[no\])?\w+:|$)", text)
        found = re.sub(r"^<[^>]*>: ", "", found)
        assert found.startswith("[P] ") == item.metadata["stated"], name
        default = re.search(r".*\[(.*?)\]", found)[1]  # the last bracket
        assert default.endswith(item.metadata["unit"]), name
        values = item.metadata["presets"].values()
        assert all(str(value if value != "" else "none") in default for value in values), name


# -- read from words and files ----------------------------------------------------------------------------------------


def test_flags_and_files_are_read_as_training_reads_them(tmp_path):
    (tmp_path / "a.flags").write_text("# a row\n--model=hcl\n--latent_size=8\n--preset=paper\n--task=qqp\n")
    (tmp_path / "b.flags").write_text(f"--flagfile={tmp_path / 'a.flags'}\n--latent_size=9\n--nomixed_precision\n")
    found = setting_flags.read([f"--flagfile={tmp_path / 'b.flags'}", "--weight_key=0.5", "--preset=tiny", "--run_dir=x", "--row=y"])
    assert found.given == {"model": "hcl", "latent_size": 9, "mixed_precision": False, "weight_key": 0.5}
    assert (found.task.value, found.preset.value, found.run_dir.value, found.row.value) == ("qqp", "tiny", "x", "y")
    assert found.data_folder is None
    assert str(setting_flags.read(["--data_dir=there/it"]).data_folder) == "there/it"


def test_reading_changes_no_flag_of_this_process():
    train = entry_point("train")
    flags.FLAGS(["train"])
    setting_flags.read(["--latent_size=9", "--task=qqp"])
    assert (train.FLAGS.given, train.FLAGS.task.value) == ({}, None)


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--latent_sise=3", "latent_sise"), ("--latent_size=many", "many"), ("--preset=huge", "huge"), ("--flagfile=nowhere", "nowhere"),
        ("--strategy=both", "both"),
    ],
)  # fmt: skip
def test_what_no_training_would_take_is_refused(flag, named):
    with pytest.raises(UserError, match=named):
        setting_flags.read([flag])


@pytest.mark.parametrize("former", RENAMED)
def test_a_setting_can_be_given_by_its_former_name(tmp_path, former):
    (tmp_path / "old.flags").write_text(f"--model=claps\n--{former}=2.5\n")
    for words in (["--model=claps", f"--{former}=2.5"], [f"--flagfile={tmp_path / 'old.flags'}"]):
        assert setting_flags.read(words).given == {"model": "claps", RENAMED[former]: 2.5}


@pytest.mark.parametrize("in_file", [False, True])
def test_a_flag_that_a_system_does_not_use_is_refused_with_those_that_do(tmp_path, in_file):
    """`check` is what train.py asks before TensorFlow is imported."""
    words = ["--task=qqp", "--model=transformer", "--latent_size=8"]
    if in_file:
        (tmp_path / "row.flags").write_text("\n".join(words))
        words = [f"--flagfile={tmp_path / 'row.flags'}"]
    with pytest.raises(UserError, match=r"^--latent_size: --model=transformer does not use it; hcl, bert_cvae, bert_cvae_ins, cvae would"):
        setting_flags.read(words).check()
    setting_flags.read([*words, "--model=cvae"]).check()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--task is needed: one of qqp, douban, rocstories, custom"), (["--task=custom"], "--task=custom needs --data_dir"),
        (["--task=qqp", "--model=claps", "--claps_imposter_norm=-1"], "--claps_impostor_norm=-1.0: at least 0"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused(words, said):
    with pytest.raises(UserError, match=said):
        setting_flags.read(words).check()
    setting_flags.read(["--task=custom", "--data_dir=x"]).check()
