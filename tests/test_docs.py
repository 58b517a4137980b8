"""The documentation says what is so: links and anchors lead somewhere, names of code, flags and messages exist, commands run as shown."""

import ast
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import floors_drawing
import pytest
import settings_page
from markdown_files import anchors, in_repository, is_printed, links, runnable, slugify, symbols, with_links

from hcl_tf.models import setting_flags
from hcl_tf.pretraining import settings as pretraining_settings

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
CHECKED = [*sorted(ROOT.glob("*.md")), *PAGES, *sorted((ROOT / "experiments").rglob("*.md")), *sorted((ROOT / "benchmarks").glob("*.md"))]
RUN = [page for page in PAGES if runnable(page.read_text(encoding="utf-8"))]
FOREIGN = {"no-deps", "stat", "grep", "logdir", "directory", "xla_gpu_enable_triton_gemm"}  # of pip, git, TensorBoard, Python and XLA


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def anchors_of(path: Path) -> set[str]:
    return anchors(path.read_text(encoding="utf-8"))


@cache
def source(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def sources() -> list[Path]:
    return sorted((ROOT / "hcl_tf").rglob("*.py"))


# -- what pages point to ------------------------------------------------------------------------------------------------


def test_an_escaped_sign_of_a_link_is_the_sign():
    assert [link.target for link in links(r"| [a](b\_c/d.md) | <a href='e'> [f](g.md) |")] == ["b_c/d.md", "g.md"]


@pytest.mark.parametrize("page", CHECKED, ids=named)
def test_links_and_anchors_lead_somewhere(page):
    dead = []
    for link in links(page.read_text(encoding="utf-8")):
        found = in_repository(page, link.target, ROOT)
        if found is None:
            if not re.match(r"(https?|mailto):", link.target):
                dead.append(f"{page.name}:{link.line}: {link.target} leaves the repository")
        elif not found[0].exists():
            dead.append(f"{page.name}:{link.line}: {link.target} is not there")
        elif found[1] and found[1] not in anchors_of(found[0]):
            dead.append(f"{page.name}:{link.line}: {link.target}: no such anchor")
    assert not dead, "\n".join(dead)


def has(body: list[ast.stmt], names: list[str]) -> bool:
    """Whether a module or class has a name, its attributes with those that methods give to `self`."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == names[0]:
            return len(names) == 1 or has(node.body, names[1:])
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if len(names) == 1 and any(isinstance(target, ast.Name) and target.id == names[0] for target in targets):
            return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_names_of_code_are_in_their_files(page):
    for name, target in symbols(page.read_text(encoding="utf-8")):
        if not name.endswith(".py"):
            file = (page.parent / target).resolve()
            assert has(source(file).body, name.split(".")), f"{page.name}: {name} is not in {target}"


def test_every_equation_has_a_row_that_says_where_it_is_computed():
    text = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    table = text.partition("## Where each equation is computed")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("|") and symbols(line)]
    numbers = {int(number) for row in rows for number in re.findall(r"\d+", row.split("|")[1].replace("^0", ""))}
    assert numbers == set(range(1, 12))
    assert all(any(part in row for row in rows) for part in ("L_{ins}", "| 10 | $L_{key}$", "| 11 | $L_{ma}$", "total"))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_quoted_code_stands_in_its_file(page):
    quoted = re.findall(r"<!-- quoted from (\S+) -->\n```\w+\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    for name, text in quoted:
        whole = (ROOT / name).read_text(encoding="utf-8")
        for part in text.split("\n...\n"):
            assert part.strip("\n") in whole, f"{page.name}: {name} has not (any more): {part[:80]}"


# -- flags and messages -------------------------------------------------------------------------------------------------


def known_flags() -> set[str]:
    defined = {*setting_flags.all_settings(), *pretraining_settings.flags_of()}
    for path in sources():
        defined |= set(re.findall(r"\bDEFINE_\w+\(\s*\"(\w+)\"", path.read_text(encoding="utf-8")))
    return defined | {"flagfile", "help", "helpfull"}


def test_flags_that_pages_name_exist():
    known, unknown = known_flags(), []
    for page in PAGES:
        for name in re.findall(r"(?<![\w-])--([a-z]\w*(?:-\w+)*)", page.read_text(encoding="utf-8")):
            if not {name, name.removeprefix("no")} & (known | FOREIGN):
                unknown.append(f"{page.name}: --{name}")
    assert not unknown, unknown


def test_error_messages_that_the_page_explains_are_the_programs():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    explained = re.findall(r"^### `(.+)`$", page, re.M)
    assert len(explained) >= 20
    # Literals that stand one behind the other are one text, so that every message is on one line.
    program = "\n".join(re.sub(r'"\s+f?"', "", path.read_text(encoding="utf-8")) for path in sources())
    for text in explained:
        assert re.search("[^\\n]*".join(re.escape(part.strip()) for part in text.split("…")), program), text


# -- pages that programs make -------------------------------------------------------------------------------------------


def test_the_page_of_settings_is_up_to_date():
    assert settings_page.PAGE.read_text(encoding="utf-8") == settings_page.page(), "run: python docs/tools/settings_page.py"


def test_the_drawing_of_the_floors_is_up_to_date():
    assert floors_drawing.PICTURE.read_text(encoding="utf-8") == floors_drawing.picture(), "run: python docs/tools/floors_drawing.py"


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    assert sorted(re.findall(r"(?<![\w/])\w+\.md", nav)) == [page.name for page in PAGES]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="make docs installs it")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", f"--site-dir={tmp_path / 'site'}"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    method = (tmp_path / "site" / "method.html").read_text(encoding="utf-8")
    assert "<math" in method
    assert "arithmatex" not in method


# -- commands -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=named)
def test_runnable_commands_run_and_print_what_is_shown(page, tmp_path):
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": places, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    for block in runnable(page.read_text(encoding="utf-8")):
        command = [shutil.which("bash"), "-e", "-o", "pipefail", "-c", block.text]
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        where = f"{page.name}:{block.line}"
        assert run.returncode == 0, f"{where}: {run.stdout[-2000:]}{run.stderr[-2000:]}"
        assert is_printed(block.prints, run.stdout), f"{where} shows other lines than it prints:\n{run.stdout}"


# -- what reads the pages -----------------------------------------------------------------------------------------------


def test_links_are_found_outside_of_code_only():
    text = 'a [b](c.md#d) `[e](f)`\n```sh\n[g](h)\n```\n![`i` [j]](k.svg) <img src="l.png">\n``[`m`](n.py)``\n'
    assert [(link.line, link.target) for link in links(text)] == [(1, "c.md#d"), (5, "k.svg"), (5, "l.png")]
    assert symbols(text) == []
    assert with_links("[`a`](b) ![c](d) `[e](f)`\n```\n[g](h)\n```", {"b": "x", "d": None}.get) == "[`a`](x) c `[e](f)`\n```\n[g](h)\n```"


def test_anchors_are_githubs():
    assert slugify("What is it, and `why` (a [link](x))?") == "what-is-it-and-why-a-link"
    assert anchors('# A b\n## A b\n```\n# no\n```\n<a id="own"></a>') == {"a-b", "a-b-1", "own"}


def test_what_is_printed_may_differ_in_numbers_and_where_dots_stand():
    assert is_printed("loss 1.5, 2 left\n...\nend", "x\nloss 0.25, 1,000 left\nanything\nend\n")
    assert not is_printed("loss 1.5\nend", "loss 1.5\nanything\nend")
    text = "<!-- run -->\n```sh\nls\n```\nwords\n<!-- prints -->\n```text\na\n```\n```sh\nrm\n```\n"
    assert runnable(text) == [(3, "ls\n", "a\n")]
