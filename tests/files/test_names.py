"""Names that become part of a path."""

from pathlib import Path

import pytest

from hcl_tf.files.names import is_plain


@pytest.mark.parametrize("name", ["hcl", "hcl_without_graph", "a name with 'quotes\"", "行", "é%{}$;#?&", "v1.2-b"])
def test_it_stays_in_its_folder(tmp_path, name):
    assert is_plain(name)
    (tmp_path / f"{name}-1.json").write_text("kept")
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}-1.json"]


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/x", "x/y", "x\\y", ".hidden", "-flag", "--row=x", "a\nb", "a\0b"])
def test_it_would_leave_be_hidden_or_pass_for_a_flag(name):
    assert not is_plain(name)
    inside = Path("folder")
    assert name != "../x" or (inside / name).resolve().parent != inside.resolve()
