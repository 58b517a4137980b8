"""The files beside the package: they speak of this version, and name files that are there."""

import re
from pathlib import Path

import pytest
import yaml

import hcl_tf

ROOT = Path(__file__).parents[1]


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == hcl_tf.__version__
    assert citation["references"][0]["doi"].endswith("2022.acl-long.304")


def test_the_changes_name_this_version_and_the_arithmetic_of_its_runs():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {hcl_tf.__version__} (" in text
    assert max(int(number) for number in re.findall(r"^Arithmetic (\d+)", text, re.MULTILINE)) == hcl_tf.ARITHMETIC


def test_files_that_a_contributor_is_sent_to_are_there():
    named = re.findall(r"`([\w/]+\.(?:py|toml|yaml|md))`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    fixed = [name for name in named if "NAME" not in name and name != "__main__.py"]
    assert len(fixed) > 10
    places = (ROOT, ROOT / "hcl_tf", ROOT / "hcl_tf" / "data" / "corpora", ROOT / "hcl_tf" / "training")
    assert [name for name in fixed if not any((place / name).is_file() for place in places)] == []


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.md")), ids=lambda path: path.stem)
def test_an_issue_template_has_a_head(path):
    _, head, body = path.read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(head).keys() == {"name", "about", "labels"}
    assert body.strip()
