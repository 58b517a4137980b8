"""What mkdocs does beside what it does by itself: files of the repository that pages link to, and formulas.

GitHub follows a link from docs/ to any file of the repository. A site has docs/ alone, so the files that pages link to go along, under
repository/: Markdown as pages, others as they are. Formulas become MathML, which browsers show without a script.
"""

import html
import posixpath
import re
from pathlib import Path

from latex2mathml.converter import convert
from markdown_files import in_repository, links, with_links
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

OUTSIDE = "repository"  # where on the site the files from outside of docs/ are
AS_THEY_ARE = (".md", ".txt", ".png", ".svg", ".jpg", ".html")  # other files end in .txt there, so that a browser shows them
_FORMULA = re.compile(r"<(span|div) class=\"arithmatex\">\s*\\[(\[](.*?)\\[)\]]\s*</\1>", re.S)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds every file of the repository that a page links to, and those that these link to."""
    root = Path(config.config_file_path).parent.resolve()
    waiting = [root / "docs" / page.src_uri for page in files.documentation_pages()]
    seen = set(waiting)
    while waiting:
        file = waiting.pop()
        for link in links(file.read_text(encoding="utf-8")):
            found = in_repository(file, link.target, root)
            if not found or found[0] in seen or not found[0].is_file() or found[0].is_relative_to(root / "docs"):
                continue
            seen.add(found[0])
            if found[0].suffix == ".md":
                waiting.append(found[0])
            name = f"{OUTSIDE}/{found[0].relative_to(root).as_posix()}"
            name += "" if found[0].suffix in AS_THEY_ARE else ".txt"
            files.append(File.generated(config, name, abs_src_path=str(found[0]), inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lets links that leave docs/ point to where the site has those files; a link to a folder keeps its words only."""
    root = Path(config.config_file_path).parent.resolve()
    here = page.file.src_uri
    file = root / here.removeprefix(f"{OUTSIDE}/") if here.startswith(f"{OUTSIDE}/") else root / "docs" / here

    def changed(target: str) -> str | None:
        found = in_repository(file, target, root)
        if found is None:
            return target
        place = found[0].relative_to(root).as_posix()
        name = place.removeprefix("docs/") if place.startswith("docs/") else f"{OUTSIDE}/{place}"
        known = next((each for each in (name, f"{name}.txt") if files.get_file_from_path(each)), None)
        return known and posixpath.relpath(known, posixpath.dirname(here)) + (f"#{found[1]}" if found[1] else "")

    return with_links(markdown, changed)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns formulas into MathML."""

    def formula(found: re.Match) -> str:
        return convert(html.unescape(found[2]).strip(), display="block" if found[1] == "div" else "inline")

    return _FORMULA.sub(formula, content)
