"""The form: nothing of the key in it, no way for a text to become markup, and in a browser exactly the sheet that was asked for."""

import json
import re
from html.parser import HTMLParser

import pytest
from chromium import CHROMIUM, Browser
from toy_study import NASTY, filled, toy_study

from hcl_tf.studies.human_evaluation.folder import write
from hcl_tf.studies.human_evaluation.form import form
from hcl_tf.studies.human_evaluation.sheets import rows, to_csv
from hcl_tf.studies.human_evaluation.study import SCALES

STUDY = toy_study(items=len(NASTY), texts=NASTY, keep_case=True)


class Elements(HTMLParser):
    """Start tags with their attributes, and the text in each script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[-1] += data


def test_texts_are_data_and_never_markup():
    page = Elements(form(STUDY, 1, ["a <b> & c"], "sheet.csv"))
    plain = Elements(form(toy_study(items=2), 1, ["a <b> & c"], "sheet.csv"))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    data = json.loads(page.scripts[0])
    assert [[*row["cells"], "", "", ""] for row in data["rows"]] == rows(STUDY, 1)
    assert {row["output"] for row in data["rows"]} == {text for item in STUDY.items for text in item.outputs.values()}


def test_the_page_loads_nothing_and_names_what_may_run():
    page = Elements(form(STUDY, 1, ["guideline"], "sheet.csv"))
    assert not any(name in attributes for _, attributes in page.tags for name in ("src", "href", "action", "onclick", "style"))
    (policy,) = (attributes["content"] for _, attributes in page.tags if attributes.get("http-equiv"))
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_what_annotators_get_names_no_system(tmp_path):
    study = toy_study()
    write(study, tmp_path)
    given = sorted((tmp_path / "annotators").iterdir())
    assert [path.name for path in given] == [
        *(f"annotator-{n}.{kind}" for n in (1, 2, 3) for kind in ("csv", "html")),
        "guideline.md",
    ]
    for path in given:
        text = path.read_text(encoding="utf-8-sig")
        for name in (
            *study.systems,
            *(system["predictions_sha256"] for system in study.origin["systems"]),
            *(item.id for item in study.items),
        ):
            assert not re.search(rf"\b{name}\b", text), (path, name)


@pytest.fixture
def browser(tmp_path):
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; apt-get install chromium")
    (tmp_path / "downloads").mkdir()
    found = Browser(tmp_path / "profile", tmp_path / "downloads")
    yield found
    found.close()


@pytest.mark.slow
def test_filled_by_keyboard_remembered_and_downloaded(browser, tmp_path):
    page, sheet = tmp_path / "annotator-2.html", tmp_path / "downloads" / "annotator-2.csv"
    page.write_text(form(STUDY, 2, ["guideline"], sheet.name), encoding="utf-8")

    def rule(item, system, scale, annotator) -> int:
        return 1 + (item.number + len(system) + len(scale)) % 3

    lines = filled(STUDY, 2, rule)
    a_page = len(STUDY.labels)
    half = len(lines) // 2 // a_page * a_page
    browser.resize(360, 740)
    browser.open(page)
    for number in range(0, len(lines), a_page):
        if number == half:
            browser.open(page)  # as after closing it: at the first unfinished item
        shown = browser.evaluate("[...document.querySelectorAll('.output .text')].map(each => each.textContent)")
        texts = [STUDY.items[int(line[1]) - 1].outputs[line[2]] for line in lines[number : number + a_page]]
        place = browser.evaluate("document.getElementById('position').textContent")
        assert (place, shown) == (
            f"Item {number // a_page + 1} of {len(STUDY.items)}",
            [text if text.strip() else "(no text)" for text in texts],
        )
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for line in lines[number : number + a_page]:
            for score in line[-len(SCALES) :]:
                browser.press(score)
        if number + a_page < len(lines):
            browser.press("Enter")  # the button for the next item has the focus
    assert browser.evaluate("document.getElementById('status').textContent").startswith(f"All {len(lines) * 3} scores given")
    browser.evaluate("document.getElementById('download').click()")
    browser.wait_for("Browser.downloadProgress", state="completed")
    assert sheet.read_bytes() == to_csv(lines)
    assert browser.faults == []
    assert {address.split(":")[0] for address in browser.requests} <= {"file", "blob"}


def test_an_unfinished_sheet_is_named_so_and_can_be_downloaded_empty(browser, tmp_path):
    page, sheet = tmp_path / "annotator-1.html", tmp_path / "downloads" / "annotator-1.csv"
    page.write_text(form(STUDY, 1, ["guideline"], sheet.name), encoding="utf-8")
    browser.open(page)
    browser.evaluate("document.getElementById('download').click()")
    assert f"{len(STUDY.items) * 4 * 3} scores are still missing" in browser.evaluate("document.getElementById('notice').textContent")
    browser.wait_for("Browser.downloadProgress", state="completed")
    assert sheet.read_bytes() == to_csv(rows(STUDY, 1))
