"""An output folder is whole or not there, whatever happens while it is written."""

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import hcl_tf
from hcl_tf.errors import UserError
from hcl_tf.files import locks
from hcl_tf.files.whole_folder import whole_or_nothing

MARKER = "manifest.json"
PACKAGE = str(Path(hcl_tf.__file__).parents[1])


def fill(folder: Path, text: str) -> None:
    for name in ("a.txt", "sub/b.txt", MARKER):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def write(out: Path, text: str = "new", overwrite: bool = False) -> None:
    with whole_or_nothing(out, MARKER, overwrite) as folder:
        assert list(folder.iterdir()) == []
        fill(folder, text)


def fail_inside(out: Path, error: type[BaseException]) -> None:
    with whole_or_nothing(out, MARKER, True) as folder:
        fill(folder, "half")
        raise error("inside")


def full(name: str | None = None) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def whole(text: str) -> dict[str, str]:
    return {"a.txt": text, "sub/b.txt": text, MARKER: text}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("out", ["out", "new/deeper/out", "空 folder", "out/"])
def test_a_finished_block_becomes_the_folder_and_nothing_else_stays(tmp_path, out):
    write(tmp_path / out)
    assert content(tmp_path / out) == whole("new")
    assert names((tmp_path / out).parent) == [(tmp_path / out).name]


def test_an_empty_folder_in_place_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out")
    assert content(tmp_path / "out") == whole("new")
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("out", ["out", "new/deeper/out"])
@pytest.mark.parametrize("error", [UserError, KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_exception_inside_leaves_nothing(tmp_path, out, error):
    with pytest.raises(error):
        fail_inside(tmp_path / out, error)
    assert names(tmp_path) == []


def test_an_exception_inside_leaves_the_earlier_folder(tmp_path):
    write(tmp_path / "out", "old")
    with pytest.raises(RuntimeError):
        fail_inside(tmp_path / "out", RuntimeError)
    assert content(tmp_path / "out") == whole("old")
    assert names(tmp_path) == ["out"]


def test_a_finished_folder_is_kept_without_overwrite(tmp_path):
    write(tmp_path / "out", "old")
    with pytest.raises(UserError, match=rf"--out={tmp_path / 'out'}: .*--overwrite"):
        write(tmp_path / "out")
    assert content(tmp_path / "out") == whole("old")
    assert names(tmp_path) == ["out"]


def test_a_finished_folder_is_replaced_with_overwrite(tmp_path):
    write(tmp_path / "out", "old")
    (tmp_path / "out" / "leftover.txt").write_text("old")
    write(tmp_path / "out", overwrite=True)
    assert content(tmp_path / "out") == whole("new")
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["file", "folder", "folder with a folder called like the marker"])
def test_what_is_not_a_prepared_folder_is_never_replaced(tmp_path, kind, overwrite):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        (out / (MARKER if "marker" in kind else "notes")).mkdir(parents=True)
        (out / "notes.txt").write_text("mine")
    before = content(out) if out.is_dir() else out.read_text()
    with pytest.raises(UserError, match="not a prepared folder"):
        write(out, overwrite=overwrite)
    assert (content(out) if out.is_dir() else out.read_text()) == before
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("out", ["/proc/out", "/proc/1/out/deeper", "FILE/out", "FILE/deeper/out", "x" * 300, "/"])
def test_a_place_that_can_not_be_written_is_refused_by_name(tmp_path, out):
    (tmp_path / "FILE").write_text("a plain file")
    with pytest.raises(UserError, match=r"--out="):
        write(tmp_path / out)
    assert names(tmp_path) == ["FILE"]


@pytest.mark.parametrize("leads_to", ["nowhere", "old"])
def test_a_link_in_place_is_followed_and_stays(tmp_path, leads_to):
    (tmp_path / "links").mkdir()
    write(tmp_path / "old", "old")
    (tmp_path / "links" / "out").symlink_to(tmp_path / leads_to)
    write(tmp_path / "links" / "out", overwrite=True)
    assert (tmp_path / "links" / "out").is_symlink()
    assert content(tmp_path / leads_to) == whole("new")
    assert names(tmp_path / "links") == ["out"]
    assert set(names(tmp_path)) == {"links", "old", leads_to}


def test_a_second_run_at_the_same_time_is_refused_and_does_no_harm(tmp_path):
    with whole_or_nothing(tmp_path / "out", MARKER, False) as folder:
        fill(folder, "first")
        for overwrite in (False, True):
            with pytest.raises(UserError, match="writing it now"):
                write(tmp_path / "out", "second", overwrite)
        assert content(folder) == whole("first")
    assert content(tmp_path / "out") == whole("first")
    assert names(tmp_path) == ["out"]


def test_a_second_process_at_the_same_time_is_refused(tmp_path):
    with whole_or_nothing(tmp_path / "out", MARKER, False) as folder:
        fill(folder, "first")
        run = subprocess.run([sys.executable, "-c", RUN, str(tmp_path / "out"), "0", "new"], cwd=PACKAGE, capture_output=True, text=True)
    assert (run.returncode, "writing it now" in run.stderr) == (1, True)
    assert content(tmp_path / "out") == whole("first")


def test_a_leftover_of_a_killed_run_is_cleaned(tmp_path):
    fill(tmp_path / ".out.partial" / "content", "half")
    (tmp_path / ".out.partial" / "link").symlink_to(tmp_path)
    (tmp_path / ".out.partial" / ".lock").write_text("")
    write(tmp_path / "out")
    assert content(tmp_path / "out") == whole("new")
    assert names(tmp_path) == ["out"]


def killed_between_the_renames(parent: Path) -> None:
    fill(parent / ".out.old", "old")
    fill(parent / ".out.partial" / "content", "new")


def test_killed_between_the_renames_the_earlier_folder_comes_back(tmp_path):
    killed_between_the_renames(tmp_path)
    with pytest.raises(UserError, match="--overwrite"):
        write(tmp_path / "out")
    assert content(tmp_path / "out") == whole("old")
    assert names(tmp_path) == ["out"]


def test_killed_between_the_renames_a_failing_overwrite_keeps_the_earlier_folder(tmp_path):
    killed_between_the_renames(tmp_path)
    with pytest.raises(RuntimeError), whole_or_nothing(tmp_path / "out", MARKER, True):
        raise RuntimeError
    assert content(tmp_path / "out") == whole("old")
    assert names(tmp_path) == ["out"]


# Writes sys.argv[3] to sys.argv[1] with overwrite and kills itself at the line of the code number sys.argv[2] (0: never).
RUN = """
import os, signal, sys
from pathlib import Path
from hcl_tf.files import whole_folder
from hcl_tf.errors import UserError
out, last, text = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
count = 0
def trace(frame, event, argument):
    global count
    if frame.f_code.co_filename not in (whole_folder.__file__, whole_folder.shutil.__file__):
        return None
    if event == "line":
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)
    return trace
sys.settrace(trace)
try:
    with whole_folder.whole_or_nothing(out, "manifest.json", True) as folder:
        for name in ("a.txt", "sub/b.txt", "manifest.json"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
except UserError as error:
    sys.exit(str(error))
sys.settrace(None)
print(count)
"""


def run(out: Path, kill_at: int, text: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", RUN, str(out), str(kill_at), text], cwd=PACKAGE, capture_output=True, text=True)


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> list[Path]:
    """Parents of `out` left by runs that were killed, each a few lines later than the one before."""
    probe = tmp_path_factory.mktemp("probe")
    write(probe / "out", "old")
    lines = int(run(probe / "out", 0, "new").stdout)
    assert content(probe / "out") == whole("new")
    parents = []
    for kill_at in range(1, lines + 1, 3):
        parent = tmp_path_factory.mktemp("killed")
        write(parent / "out", "old")
        assert run(parent / "out", kill_at, "new").returncode == -signal.SIGKILL
        parents.append(parent)
    assert any(content(parent / "out") == whole("new") for parent in parents if (parent / "out").exists())
    return parents


def copies(parents: list[Path], to: Path) -> list[Path]:
    made = []
    for i, parent in enumerate(parents):
        subprocess.run(["cp", "-a", str(parent), str(to / str(i))], check=True)
        made.append(to / str(i))
    return made


def test_killed_at_any_line_the_folder_is_old_or_new_or_not_there(killed):
    for parent in killed:
        out = parent / "out"
        assert not out.exists() or content(out) in (whole("old"), whole("new"))


@pytest.mark.parametrize("overwrite", [True, False])
def test_killed_at_any_line_the_next_run_leaves_a_whole_folder_and_no_leftover(killed, tmp_path, overwrite):
    left = {}
    for parent in copies(killed, tmp_path):
        try:
            write(parent / "out", "newest", overwrite)
        except UserError:
            assert not overwrite
            assert content(parent / "out") in (whole("old"), whole("new"))
        else:
            assert content(parent / "out") == whole("newest")
        if names(parent) != ["out"]:
            left[parent.name] = names(parent)
    assert left == {}


def test_killed_at_any_line_and_the_folder_then_deleted_no_damaged_one_comes_back(killed, tmp_path):
    for parent in copies(killed, tmp_path):
        if (parent / "out").exists():
            subprocess.run(["rm", "-r", str(parent / "out")], check=True)
        try:
            write(parent / "out", "newest")
        except UserError:
            assert content(parent / "out") == whole("old")
        else:
            assert content(parent / "out") == whole("newest")


def test_the_lock_of_a_killed_run_does_not_stay(tmp_path):
    (tmp_path / ".out.partial").mkdir()
    with (tmp_path / ".out.partial" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="writing it now"):
            write(tmp_path / "out")
    write(tmp_path / "out")
    assert names(tmp_path) == ["out"]


def test_a_relative_place_is_taken_from_the_working_directory_at_the_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with whole_or_nothing(Path("out"), MARKER, False) as folder:
        fill(folder, "new")
        os.chdir("/")
    assert content(tmp_path / "out") == whole("new")


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (full(), "/out can't be written"),
        (full("shard"), "shard can't be written"),
        (RuntimeError("part-0 tempstate; No space left on device"), "/out can't be written .*part-0"),
    ],
    ids=["nameless", "named", "of a library"],
)
def test_a_full_disk_is_said_of_the_folder_whoever_says_it(tmp_path, error, named):
    with pytest.raises(UserError, match=f"{named}.*No space left on device.*free space"), whole_or_nothing(tmp_path / "out", MARKER, True):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_a_full_disk_refuses_names_the_folder(tmp_path, monkeypatch):
    def take(lock, waiting_for):
        raise full()

    monkeypatch.setattr(locks, "take", take)
    with pytest.raises(UserError, match=r"--out=.*/out: can't be locked \(No space left on device\)"):
        write(tmp_path / "out")


def test_an_error_that_names_its_file_stays_as_it_is(tmp_path):
    said = "shard: can't be written (No space left on device); free space"
    with pytest.raises(UserError, match=f"^{re.escape(said)}$"), whole_or_nothing(tmp_path / "out", MARKER, True):
        raise UserError(said)
