"""Texts that are markup, in every field of a report and of the demo's page, looked at by a real browser: they are shown and not run."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from chromium import CHROMIUM, Browser

from hcl_tf.reporting.page import Grid, Marked, Section, html, markdown
from hcl_tf.serving import demo_page
from hcl_tf.serving.demo_page import Shown
from hcl_tf.serving.keyword_edits import Answer, Comparison, Example, prior_change

RUN = "document.documentElement.dataset.taken = 1"
HOSTILE = (
    f"<script>{RUN}</script>",
    f'"><img src=x onerror="{RUN}">',
    f"</title></style></textarea><svg onload='{RUN}'>",
    f"[a link](javascript:{RUN})",
    f"**<script>{RUN}</script>** `<script>{RUN}</script>` note 1",
)
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301010018dd8db00000000049454e44ae426082"
)


def report(text: str) -> list[Section]:
    """A page with the text as title, paragraph, column, cell, marked cell, marked word, table's title, picture's name and note."""
    cells = [{"source": text, "output": Marked(f"before {text} after", (text, "script")), text: "a column"}]
    parts = [Section(text, [text, text], [Grid(cells, text)], {f"{text}.png": PIXEL}, folded=folded, see=(1,)) for folded in (False, True)]
    return [*parts, Section("Notes", notes={1: text})]


def demo(text: str) -> str:
    """The demo's page, with the text as text, target, keyword, unknown keyword, suggestion, output, run's name, model, note and problem."""
    priors = ((np.zeros(2), np.ones(2)), (np.ones(2), np.ones(2)))
    own, edited = (Answer((text,), (text,), ((text, -1.0), (f"a {text}", -2.0)), prior) for prior in priors)
    run = SimpleNamespace(
        name=text, model=text, notes=(text,), frequent=(text,), uses_keywords=True, ordered=False, language="en", most_keywords=4
    )
    shown = Shown(text, (text,), [(run, Comparison(own, edited, prior_change(*priors)))], problem=text)
    return demo_page.page([run], shown, [Example(text, text)])


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine; apt-get install chromium")
    opened = Browser(tmp_path_factory.mktemp("profile"), tmp_path_factory.mktemp("downloads"))
    yield opened
    opened.close()


def is_taken(browser: Browser, path: Path, page: str) -> bool:
    path.write_text(page, encoding="utf-8")
    browser.open(path)
    browser.evaluate("new Promise(done => setTimeout(done, 50))")  # an image that is missing says so later
    return bool(browser.evaluate("document.documentElement.dataset.taken || document.querySelector('[href^=javascript]')"))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_report_shows_it(browser, tmp_path, text):
    assert not is_taken(browser, tmp_path / "report.html", html(report(text)))
    assert text in browser.evaluate("document.body.textContent")


@pytest.mark.parametrize("text", HOSTILE)
def test_the_demo_shows_it(browser, tmp_path, text):
    assert not is_taken(browser, tmp_path / "demo.html", demo(text))
    assert text in browser.evaluate("document.body.textContent")
    assert browser.evaluate("[document.querySelector('#text').value, document.querySelector('.chip').value]") == [text, text]


@pytest.mark.parametrize("text", HOSTILE)
def test_tables_in_markdown_hold_no_tag(text):
    tables = [line for line in markdown(report(text)).splitlines() if line.startswith("|")]
    assert tables
    assert not any("<s" in line or "<i" in line for line in tables)


def test_a_browser_would_have_noticed(browser, tmp_path):
    assert is_taken(browser, tmp_path / "planted.html", f"<!doctype html><body>{HOSTILE[1]}")
