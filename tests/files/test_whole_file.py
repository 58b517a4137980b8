"""A file is replaced whole or stays as it was."""

import pytest

from hcl_tf.errors import UserError
from hcl_tf.files.whole_file import write_whole


def test_write_whole_replaces_or_leaves(tmp_path):
    path = tmp_path / "sub" / "f"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert [one.name for one in path.parent.iterdir()] == ["f"]
    (tmp_path / "folder" / "x").mkdir(parents=True)
    with pytest.raises(UserError, match=f"{tmp_path}/folder: can't be written"):
        write_whole(tmp_path / "folder", b"three")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["folder", "sub"]
