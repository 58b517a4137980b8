"""The command line of the demo, and the page in a real browser."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import demo_picture
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


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
def test_reading_clicking_and_typing_in_a_browser(trained_run, tmp_path):
    """Finds an example answered, removes a keyword, adds others, types a text; on a desk and on a telephone, by mouse and by keys."""
    with demo_picture.served([trained_run], tmp_path) as address:
        browser = Browser(tmp_path / "profile", tmp_path)
        try:
            browser.resize(demo_picture.WIDTH, 800)
            browser.open(address)
            chips, results = demo_picture.chips(), "document.querySelector('#results').innerText"
            own, opened = browser.evaluate(chips), browser.evaluate(results)
            assert browser.evaluate("document.querySelector('#text').value")
            assert len(own) > 1
            assert f"With the text's own keywords: {', '.join(own)}" in opened
            assert "Nothing is edited yet" in opened

            assert demo_picture.remove(browser, 0) == own[0]
            assert browser.evaluate(chips) == own[1:]
            removed = browser.evaluate(results)
            assert f"With yours: {', '.join(own[1:])}" in removed
            assert "How far the prior of z moved" in removed
            assert browser.evaluate("document.activeElement.value") == own[1], "the next chip has the keys"
            browser.press("Enter")
            browser.until(f"!{chips}.includes({json.dumps(own[1])})")
            browser.until("document.readyState == 'complete'")
            demo_picture.add(browser, "zyxwvut，diet")
            assert browser.evaluate(chips) == [*own[2:], "zyxwvut", "diet"]
            assert re.search("counted as unknown:.* zyxwvut", browser.evaluate(results))
            assert browser.evaluate("document.activeElement.id") == "add"
            demo_picture.add(browser, "one, two, three, four")
            assert "give fewer" in browser.evaluate("document.querySelector('[role=alert]').innerText")
            assert browser.evaluate(chips) == [*own[2:], "zyxwvut", "diet"]
            is_readable_on_a_telephone(browser)

            browser.type("How can I lose weight?", "#text")
            browser.evaluate("document.querySelector('#answer').click()")
            browser.until(f"{chips}.includes('weight')")
            browser.until("document.readyState == 'complete'")
            assert "Nothing is edited yet" in browser.evaluate(results), "another text has its own keywords"
            is_readable_on_a_telephone(browser)
            assert browser.faults == []
            assert [url for url in browser.requests if not url.startswith((address, "data:", "about:"))] == []
        finally:
            browser.close()


def is_readable_on_a_telephone(browser: Browser) -> None:
    """Nothing is wider than the screen, and what is to be touched or typed into is large enough for it."""
    picture = demo_picture.take(browser, demo_picture.PHONE)
    assert picture.startswith(b"\x89PNG")
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert browser.evaluate("innerWidth") == demo_picture.PHONE
    smallest = "Math.min(...[...document.querySelectorAll({})].map(element => element.getBoundingClientRect().{}))"
    assert browser.evaluate(smallest.format("'button, #add, #text'", "height")) >= 44
    assert browser.evaluate(smallest.format("'#add, #text'", "width")) > 300
    assert browser.evaluate("parseFloat(getComputedStyle(document.querySelector('#add')).fontSize)") >= 16, "or iOS zooms in"
    browser.resize(demo_picture.WIDTH, 800)


def test_the_picture_in_the_readme_is_small():
    picture = demo_picture.PICTURE.read_bytes()
    width = int.from_bytes(picture[16:20], "big")
    assert (picture[:4], width) == (b"\x89PNG", demo_picture.WIDTH)
    assert len(picture) < 200_000
