"""The command line of the demo, and the page in a real browser."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


MISSING = [name for name in ("gradio", "selenium") if importlib.util.find_spec(name) is None]
MISSING += [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
def test_typing_and_clicking_in_a_browser(trained_run, tmp_path):
    """Types a text, takes its keywords, changes them, and finds outputs, the prior's distance, and no request to another host."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    command = [sys.executable, "-m", "hcl_tf.demo", f"--run_dir={trained_run}", "--port=0"]
    server = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    options = webdriver.ChromeOptions()
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    options.binary_location = shutil.which("chromium")
    for switch in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update", "disable-sync"):
        options.add_argument(f"--{switch}")
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    try:
        address = server.stdout.readline().split()[2]  # "the page: URL (Ctrl-C ends it)"
        with webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver"))) as browser:
            wait = WebDriverWait(browser, 180)
            browser.get(address)
            field = lambda name: wait.until(lambda b: b.find_element(By.CSS_SELECTOR, f"#{name} textarea, #{name} input"))  # noqa: E731
            results = lambda text: wait.until(lambda b: text in b.find_element(By.ID, "results").text)  # noqa: E731
            field("text").send_keys("How can I lose weight?")
            browser.find_element(By.ID, "find").click()
            wait.until(lambda _: field("keywords").get_attribute("value"))
            field("keywords").clear()
            field("keywords").send_keys("zyxwvut")
            browser.find_element(By.ID, "compare").click()
            assert results("counted as unknown: zyxwvut")
            assert results("KL(edited")
            field("keywords").clear()
            field("keywords").send_keys("one, two, three, four, five")
            browser.find_element(By.ID, "compare").click()
            assert results("5 keywords")
            events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
            asked = {e["params"]["requestId"]: e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
            failed = [e["params"] for e in events if e["method"] == "Network.loadingFailed"]
            refused = {params["requestId"] for params in failed if params.get("blockedReason") == "csp"}
            own = (address, "data:", "blob:")
            assert [url for number, url in asked.items() if number not in refused and not url.startswith(own)] == []
            assert any(url.startswith(address) for url in asked.values())
    finally:
        server.terminate()
        server.wait()
