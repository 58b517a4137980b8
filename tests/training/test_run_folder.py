"""What a run keeps: the same settings or no resume, one process at a time, files that are whole or the earlier ones."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hcl_tf
from hcl_tf.errors import UserError
from hcl_tf.training import run_folder
from hcl_tf.training.run_folder import RunFolder, has_finished, load_run

PACKAGE = str(Path(hcl_tf.__file__).parents[1])
CONFIG = {"task": "qqp", "batch": 64, "rate": 0.1, "fields": {"source": "q1"}, "limit": None, "lengths": (20, 100)}
COMMAND = ["python", "-m", "hcl_tf.train", "--task=qqp", "--raw=my file"]
pytestmark = pytest.mark.usefixtures("quick_environment")


def begin(path: Path, **changes) -> RunFolder:
    return RunFolder.open(path, CONFIG | changes, COMMAND)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- beginning and taking up


def test_whether_a_run_has_ended_is_asked_after_its_training(tmp_path, capfd):
    """The process that trains was told to end with its caller, and takes a while to save."""
    assert not has_finished(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    run = begin(tmp_path / "run")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(has_finished, tmp_path / "run")
        while "waiting for" not in capfd.readouterr().out:
            time.sleep(0.01)
        assert not asked.done()
        run.finish({"step": 1})
        run.close()
        assert asked.result(timeout=10)


@pytest.mark.parametrize("place", ["new", "deep/er", "empty", "空 folder"])
def test_a_run_begins_and_is_taken_up(tmp_path, place):
    (tmp_path / "empty").mkdir()
    for starts in (1, 2):
        with begin(tmp_path / place) as run:
            assert run.config == CONFIG | {"lengths": [20, 100]}
            assert run.path == tmp_path / place
        lines = (tmp_path / place / "command.txt").read_text().splitlines()
        assert len(lines) == starts
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ python -m hcl_tf.train --task=qqp '--raw=my file'", lines[-1])
    assert names(tmp_path / place) == [".lock", "command.txt", "config.json", "environment.json", "files.json"]
    text = (tmp_path / place / "config.json").read_text()
    assert json.loads(text) == run.config
    assert list(json.loads(text)) == sorted(CONFIG)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 32}, "batch was 64, now 32;"),
        ({"rate": 0.1 + 2**-56, "task": "douban"}, 'rate was 0.1, now 0.10000000000000002; task was "qqp", now "douban";'),
        ({"fields": {"source": "q2"}}, 'fields.source was "q1", now "q2";'),
        ({"fields": {}}, 'fields was not set, now {}; fields.source was "q1", now not set;'),
        ({"extra": False}, "extra was not set, now false;"),
        ({"batch": 64.0}, "batch was 64, now 64.0;"),
        ({"limit": 0}, "limit was null, now 0;"),
        ({f"k{number}": 1 for number in range(7)}, "k4 was not set, now 1; and 2 more;"),
    ],
)
def test_other_settings_are_refused_with_both_values(tmp_path, changes, message):
    begin(tmp_path).close()
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(UserError) as error:
        begin(tmp_path, **changes)
    assert message in str(error.value)
    assert "same flags" in str(error.value)
    assert "another --run_dir" in str(error.value)
    assert (tmp_path / "config.json").read_bytes() == before
    begin(tmp_path).close()  # and the refusal left no lock


def test_a_missing_setting_is_refused(tmp_path):
    begin(tmp_path).close()
    with pytest.raises(UserError, match="batch was 64, now not set"):
        RunFolder.open(tmp_path, {key: value for key, value in CONFIG.items() if key != "batch"}, COMMAND)


@pytest.mark.parametrize(
    "content", [["notes.txt"], ["config.json"], ["files.json"], [".lock", "metrics.jsonl"], [".lock", "files.json", "x"]]
)
def test_a_folder_that_is_something_else_is_left_alone(tmp_path, content):
    for name in content:
        (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=f"--run_dir={tmp_path}: not empty and not a run"):
        begin(tmp_path)
    assert names(tmp_path) == sorted(content)
    assert {(tmp_path / name).read_text() for name in content} == {"{}"}


@pytest.mark.parametrize("place", ["file", "file/deeper", "x" * 300])
def test_a_place_that_can_not_be_written_is_refused(tmp_path, place):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"--run_dir=.*can't be written .*choose another"):
        begin(tmp_path / place)
    assert names(tmp_path) == ["file"]


@given(st.sampled_from(["config.json", "files.json"]), st.integers(0, 10**6), st.integers(1, 255))
@settings(max_examples=80, deadline=None)
def test_a_changed_byte_in_the_configuration_is_seen_or_without_effect(name, place, bits):
    with tempfile.TemporaryDirectory() as folder:
        begin(Path(folder)).close()
        path = Path(folder) / name
        before = path.read_bytes()
        data = bytearray(before)
        data[place % len(data)] ^= bits
        path.write_bytes(data)
        if name == "files.json" and same_json(before, bytes(data)):  # a space became a line break
            begin(Path(folder)).close()
            return
        for use in (begin, load_run):
            with pytest.raises(UserError, match=str(folder)):
                use(Path(folder))


def same_json(one: bytes, other: bytes) -> bool:
    try:
        return json.loads(one.decode()) == json.loads(other.decode())
    except ValueError:
        return False


@pytest.mark.parametrize("name", ["config.json", "files.json"])
def test_a_run_without_its_record_is_refused(tmp_path, name):
    begin(tmp_path).close()
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=f"no {name}"):
        begin(tmp_path)
    with pytest.raises(UserError, match=f"--run_dir={tmp_path}: not a run .{name} is missing"):
        load_run(tmp_path)


def test_only_one_process_trains_in_a_run(tmp_path):
    script = "import sys; from hcl_tf.training import run_folder as r; r.describe_environment = dict\n"
    script += f"with r.RunFolder.open(sys.argv[1], {CONFIG!r}, []): print('open', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": PACKAGE},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "open\n"
        with pytest.raises(UserError, match=f"--run_dir={tmp_path}: process \\d+ is training in it"):
            begin(tmp_path)
        assert load_run(tmp_path).config["task"] == "qqp"  # reading is free
        process.send_signal(signal.SIGKILL)
    with begin(tmp_path), pytest.raises(UserError, match=r"process \d+ is training in it"):
        begin(tmp_path)
    begin(tmp_path).close()


def test_killed_while_beginning(tmp_path):
    """A child is killed at its first, second, ... rename or new file; the next start begins or takes up the run."""
    script = f"""
import os, shutil, signal, sys
from hcl_tf.training import environment, run_folder
run_folder.describe_environment = lambda: {{"python": "3"}}
def child(at):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        if event in ("os.rename", "os.mkdir") or event == "open" and ("w" in str(arguments[1]) or "a" in str(arguments[1])):
            seen += 1
            if seen == at: os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    run_folder.RunFolder.open(sys.argv[1], {CONFIG!r}, ["x"])
    os._exit(0)
for at in range(1, 100):
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    pid = os.fork()
    if not pid: child(at)
    killed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with run_folder.RunFolder.open(sys.argv[1], {CONFIG!r}, ["x"]) as run: assert run.environment["python"] == "3"
    run_folder.load_run(sys.argv[1])
    assert sorted(os.listdir(sys.argv[1])) == [".lock", "command.txt", "config.json", "environment.json", "files.json"]
    if not killed: break
print(at)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": PACKAGE}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 8


# --- metrics

RECORD = st.fixed_dictionaries(
    {"step": st.integers(0, 50)},
    optional={"loss": st.floats(allow_nan=False), "split": st.text(), "parts": st.lists(st.floats(0, 1), max_size=3)},
)


@given(st.lists(RECORD, max_size=12), st.integers(-1, 51), st.binary(max_size=20).filter(lambda torn: b"\n" not in torn))
@settings(max_examples=60, deadline=None)
def test_metrics_come_back_and_are_rewound(records, step, torn):
    with tempfile.TemporaryDirectory() as folder, begin(Path(folder)) as run:
        assert run.read_metrics() == []
        for record in records:
            run.append(record)
        assert run.read_metrics() == records
        run.sync()
        with (Path(folder) / "metrics.jsonl").open("ab") as file:
            file.write(torn)
        run.rewind(step)
        assert run.read_metrics() == [record for record in records if record["step"] <= step]
        assert not [name for name in names(Path(folder)) if name.endswith(".partial")]


def test_a_resumed_run_writes_the_same_metrics_file(tmp_path):
    rows = [{"step": step, "loss": 1 / (step + 1), "a": "说"} for step in range(20)]
    with begin(tmp_path / "whole") as whole, begin(tmp_path / "resumed") as resumed:
        for row in rows:
            whole.append(row)
        for row in rows[:15]:
            resumed.append(row)
        with (tmp_path / "resumed" / "metrics.jsonl").open("ab") as file:
            file.write(b'{"loss": 0.0')
        resumed.rewind(9)
        for row in rows[10:]:
            resumed.append(dict(reversed(row.items())))
    assert (tmp_path / "whole" / "metrics.jsonl").read_bytes() == (tmp_path / "resumed" / "metrics.jsonl").read_bytes()
    first = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()[0]
    assert first == '{"a": "说", "loss": 1.0, "step": 0}'


def test_an_unfinished_line_is_named_and_never_run_into(tmp_path):
    with begin(tmp_path) as run:
        run.append({"step": 1})
        path = tmp_path / "metrics.jsonl"
        path.write_bytes(path.read_bytes() + b'{"step": 2, "lo')
        with pytest.raises(UserError, match=f"{path}:2: an unfinished line"):
            run.read_metrics()
        run.append({"step": 3})
        assert run.read_metrics() == [{"step": 1}, {"step": 3}]
        path.write_bytes(b"no line at all")
        run.append({"step": 4})
        assert run.read_metrics() == [{"step": 4}]


@pytest.mark.parametrize(
    "line", ["", "{", "[1]", '{"loss": 1}', '{"step": 1.0}', '{"step": true}', '{"step": 1, "x": NaN}', '{"step": 1} {}']
)
def test_a_damaged_line_is_named(tmp_path, line):
    with begin(tmp_path) as run:
        for step in range(3):
            run.append({"step": step})
        path = tmp_path / "metrics.jsonl"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0], line, lines[2]]) + "\n")
        before = path.read_bytes()
        for use in (run.read_metrics, load_run(tmp_path).read_metrics, lambda: run.rewind(0)):
            with pytest.raises(UserError, match=f"{path}:2: damaged"):
                use()
        assert path.read_bytes() == before


@pytest.mark.parametrize("record", [{}, {"step": "1"}, {"step": 1.0}, {"step": True}, {"step": None}])
def test_a_record_without_a_step_is_a_mistake(tmp_path, record):
    with begin(tmp_path) as run:
        with pytest.raises(ValueError, match="step"):
            run.append(record)
        assert run.read_metrics() == []


def test_speed_stands_apart(tmp_path):
    with begin(tmp_path) as run:
        run.append_speed({"examples_per_second": 31.5, "time": "now"})
        run.append_speed({"examples_per_second": 32.5})
        assert run.read_metrics() == []
    assert [json.loads(line)["examples_per_second"] for line in (tmp_path / "speed.jsonl").read_text().splitlines()] == [31.5, 32.5]


def test_a_run_is_finished_when_it_says_so(tmp_path):
    with begin(tmp_path) as run:
        assert run.finished is None
        run.finish({"steps": 10, "loss": float("inf")})
    assert load_run(tmp_path).finished == {"steps": 10, "loss": float("inf")}
    (tmp_path / "done.json").write_text("{")
    with pytest.raises(UserError, match=f"{tmp_path}/done.json: can't be read"):
        _ = load_run(tmp_path).finished


def test_no_such_run(tmp_path):
    with pytest.raises(UserError, match=f"--run_dir={tmp_path}/absent: no such folder"):
        load_run(tmp_path / "absent")
    with pytest.raises(UserError, match="not a run"):
        load_run(tmp_path)


def test_checkpoints_of_a_run(tmp_path):
    with begin(tmp_path) as run:
        assert run.checkpoints.newest() is None
        run.checkpoints.save(3, {}, {})
    assert load_run(tmp_path).checkpoints.newest().step == 3
    assert "checkpoints" in names(tmp_path)


# --- another machine, another version


def test_another_machine_on_resume_is_recorded(tmp_path, monkeypatch):
    for machine in ("a", "a", "b", "b", "a"):
        monkeypatch.setattr(run_folder, "describe_environment", lambda machine=machine: {"cpu": machine})
        begin(tmp_path).close()
    assert load_run(tmp_path).environment == {"cpu": "a", "earlier": [{"cpu": "b"}]}


def test_another_version_of_the_arithmetic_on_resume_is_said_and_recorded(tmp_path, monkeypatch, capsys):
    """Runs of version 0.1.0 recorded none, which is the first."""
    for found in ({"cpu": "a"}, {"cpu": "a", "arithmetic": 1}, {"cpu": "b", "arithmetic": 1}):
        monkeypatch.setattr(run_folder, "describe_environment", lambda found=found: found)
        begin(tmp_path).close()
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(run_folder, "describe_environment", lambda: {"cpu": "b", "arithmetic": 2})
    begin(tmp_path).close()
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path}: begun under version 1 of the arithmetic, this program's is 2: it goes on, but not bit for bit")
    assert said.count("\n") == 1
    earlier = [{"cpu": "a"}, {"cpu": "a", "arithmetic": 1}, {"cpu": "b", "arithmetic": 1}]
    assert load_run(tmp_path).environment == {"cpu": "b", "arithmetic": 2, "earlier": earlier}
    begin(tmp_path).close()
    assert capsys.readouterr().out == "", "what was said once is recorded"


@pytest.mark.parametrize(("program", "run"), [("0.2.0", "0.2.1"), ("0.9", "0.10.0"), ("0.2.0", "1.0"), ("0.2.0.dev1", "0.3.0")])
def test_a_run_of_a_newer_version_is_refused_by_name_of_both(tmp_path, monkeypatch, program, run):
    monkeypatch.setattr(hcl_tf, "__version__", run)
    begin(tmp_path, version=run).close()
    monkeypatch.setattr(hcl_tf, "__version__", program)
    for open_it in (begin, load_run):
        with pytest.raises(
            UserError, match=rf"written by version {re.escape(run)} of hcl_tf, and this program is version {re.escape(program)};"
        ):
            open_it(tmp_path)


@pytest.mark.parametrize("run", [None, "0.1.0", "0.1.9", "0.2.0"])
def test_a_run_of_an_earlier_version_or_of_one_that_recorded_none_is_taken_up(tmp_path, monkeypatch, run):
    monkeypatch.setattr(hcl_tf, "__version__", "0.2.0")
    recorded = {"version": run} if run else {}
    begin(tmp_path, **recorded).close()
    assert load_run(tmp_path).config.get("version") == run
    begin(tmp_path, **recorded).close()


def test_only_what_has_to_be_the_same_is_compared(tmp_path):
    def same(config: dict) -> dict:
        return {"task": config["task"]}

    RunFolder.open(tmp_path, CONFIG, COMMAND, same=same).close()
    before = (tmp_path / "config.json").read_bytes()
    RunFolder.open(tmp_path, CONFIG | {"batch": 1, "more": 2}, COMMAND, same=same).close()
    assert (tmp_path / "config.json").read_bytes() == before, "what the run was begun with stays"
    with pytest.raises(UserError, match='task was "qqp", now "douban"'):
        RunFolder.open(tmp_path, CONFIG | {"task": "douban"}, COMMAND, same=same)
