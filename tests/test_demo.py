"""The command line of the demo, and the page in a real browser."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chromium import CHROMIUM, Browser

import hcl_tf

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(hcl_tf.__file__).parents[1])}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "hcl_tf.demo", *arguments]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "--run_dir is needed"), (["--run_dir=x", "--port=70000"], "--port=70000"), (["--run_dir=x", "text"], "unexpected argument")],
    ids=["no run", "port", "text as argument"],
)
def test_flags_that_can_not_be_are_refused_at_once(tmp_path, arguments, message):
    result = run(tmp_path, *arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_without_gradio_the_remedy_is_named(tmp_path):
    hidden = "import sys, importlib.util as u; f = u.find_spec; u.find_spec = lambda n, *a: None if n == 'gradio' else f(n, *a); "
    code = hidden + "sys.argv = ['demo', '--run_dir=x']; import runpy; runpy.run_module('hcl_tf.demo', run_name='__main__')"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == "error: the demo needs gradio, which is not installed: pip install 'hcl_tf[demo]'\n"


MISSING = [name for name in ("gradio",) if importlib.util.find_spec(name) is None] + ([] if CHROMIUM else ["chromium"])


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
def test_typing_and_clicking_in_a_browser(trained_run, tmp_path):
    """Types a text, takes its keywords, changes them, and finds outputs, the prior's distance, and no request to another host."""
    command = [sys.executable, "-m", "hcl_tf.demo", f"--run_dir={trained_run}", "--port=0"]
    server = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    browser = Browser(tmp_path / "profile", tmp_path)
    try:
        address = server.stdout.readline().split()[2]  # "the page: URL (Ctrl-C ends it)"
        browser.open(address)
        text, keywords = "#text textarea, #text input", "#keywords textarea, #keywords input"
        shown = lambda wanted: f"document.querySelector('#results')?.innerText.includes({json.dumps(wanted)})"  # noqa: E731
        for part in (text, keywords, "#find", "#compare"):
            browser.until(f"document.querySelector({json.dumps(part)}) !== null")
        deadline = time.monotonic() + 180
        while not browser.evaluate(f"document.querySelector({json.dumps(keywords)}).value"):  # what is typed before the page's own
            assert time.monotonic() < deadline  # script has taken over is lost
            browser.type("How can I lose weight?", text)
            browser.evaluate("document.querySelector('#find').click()")
            time.sleep(2)
        browser.type("zyxwvut", keywords)
        browser.evaluate("document.querySelector('#compare').click()")
        browser.until(shown("counted as unknown: zyxwvut"))
        assert browser.evaluate(shown("KL(edited"))
        browser.type("one, two, three, four, five", keywords)
        browser.evaluate("document.querySelector('#compare').click()")
        browser.until(shown("5 keywords"))
        asked = set(browser.requests) - set(browser.refused)
        assert [url for url in asked if not url.startswith((address, "data:", "blob:", "about:"))] == []
        assert any(url.startswith(address) for url in asked)
    finally:
        browser.close()
        server.terminate()
        server.wait()
