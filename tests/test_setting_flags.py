"""Settings as flags: every one there, in the help of who defines them, and read from files as training reads them."""

import pytest
from absl import flags
from conftest import entry_point

from hcl_tf import setting_flags
from hcl_tf.errors import UserError
from hcl_tf.settings import FIELDS


def test_every_setting_is_a_flag_of_the_command_that_defines_it():
    train = entry_point("train")
    own = {flag.name for flag in flags.FLAGS.get_flags_for_module("hcl_tf.train")}
    assert own >= FIELDS.keys() == train.SETTINGS.keys() | {"preset"}


def test_flags_and_files_are_read_as_training_reads_them(tmp_path):
    (tmp_path / "a.flags").write_text("# a row\n--model=hcl\n--latent_size=8\n--preset=paper\n--task=qqp\n")
    (tmp_path / "b.flags").write_text(f"--flagfile={tmp_path / 'a.flags'}\n--latent_size=9\n--nomixed_precision\n")
    preset, given = setting_flags.read([f"--flagfile={tmp_path / 'b.flags'}", "--weight_key=0.5", "--preset=tiny", "--run_dir=x"])
    assert preset == "tiny"
    assert given == {"model": "hcl", "latent_size": 9, "mixed_precision": False, "weight_key": 0.5}


@pytest.mark.parametrize(
    ("flag", "named"),
    [("--latent_sise=3", "latent_sise"), ("--latent_size=many", "many"), ("--preset=huge", "huge"), ("--flagfile=nowhere", "nowhere")],
)
def test_what_no_training_would_take_is_refused(flag, named):
    with pytest.raises(UserError, match=named):
        setting_flags.read([flag])
