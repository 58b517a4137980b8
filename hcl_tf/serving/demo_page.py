"""Makes and serves the page of `python -m hcl_tf.demo`, which shows comparisons (serving/keyword_edits.py) as HTML.

Nothing on it comes from elsewhere: no fonts, no scripts, no counting of visits. Gradio's own page would fetch things from other hosts; a
policy that is sent with every answer forbids browsers to do so.
"""

import contextlib
import io
import os
import re
import socket
from collections.abc import Sequence
from html import escape

import numpy as np

from hcl_tf.errors import UserError
from hcl_tf.serving import loopback
from hcl_tf.serving.keyword_edits import Answer, Comparison, EditableRun, PriorChange

TITLE = "What keywords do"
POLICY = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; base-uri 'self'; form-action 'self'"
)
STYLE = """<style>
.edits { display: flex; flex-wrap: wrap; gap: 1.5rem }
.edits section { flex: 1 1 22rem; min-width: 0 }
.edits table { width: 100%; table-layout: fixed; border-collapse: collapse }
.edits th, .edits td { text-align: left; vertical-align: top; padding: .25rem .5rem; overflow-wrap: anywhere; border-top: 1px solid #8886 }
.edits td small, .edits th small { opacity: .75; display: block }
.edits svg { width: 100%; height: 5rem; color: #3b6fb6 }
.edits .problem { border-left: .3rem solid #c33; padding-left: .6rem }
</style>"""


def find(runs: Sequence[EditableRun], text: str) -> str:
    """Returns a text's own keywords, separated by commas, of the first run that uses any. Raises `UserError` (`own_keywords`)."""
    run = next((run for run in runs if run.uses_keywords), runs[0])
    return ", ".join(run.own_keywords(text))


def split(keywords: str) -> list[str]:
    """Splits what a person typed at commas, English or Chinese ones, and line ends. No keywords at all is a choice too."""
    return [found for part in re.split("[,，、\n]", keywords) if (found := part.strip())]


def answer(runs: Sequence[EditableRun], text: str, keywords: str) -> str:
    """Returns the runs' comparisons side by side, as HTML."""
    given = split(keywords)
    return page([(run, run.compare(text, given)) for run in runs])


def page(compared: Sequence[tuple[EditableRun, Comparison]]) -> str:
    """Returns HTML with a section for each run."""
    return f'{STYLE}<div class="edits">{"".join(_section(run, comparison) for run, comparison in compared)}</div>'


def problem(error: UserError) -> str:
    """Returns HTML that says what is wrong with an input."""
    text = re.sub("^--(keywords|run_dir): ", "", str(error))
    return f'{STYLE}<div class="edits"><p class="problem" role="alert">{escape(text)}</p></div>'


def _section(run: EditableRun, found: Comparison) -> str:
    notes = [*run.notes]
    if not run.uses_keywords:
        notes.append("This system does not use keywords: editing them can't change its output.")
    elif not run.ordered:
        notes.append("This system takes keywords as a set: their order can't change its output.")
    if found.edited.unknown:
        notes.append(f"Not in the keyword graph, so counted as unknown: {', '.join(found.edited.unknown)}.")
    columns = [("own keywords", found.own), ("edited", found.edited)] if run.uses_keywords else [("output", found.own)]
    head = "".join(f"<th>{title}{_keywords(one) if run.uses_keywords else ''}</th>" for title, one in columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(text) or '(empty)'}<small>score {score:.2f}</small></td>" for text, score in row) + "</tr>"
        for row in zip(*(one.beams for _, one in columns), strict=True)
    )
    moved = _prior(found.change) if found.change and run.uses_keywords else ""
    said = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return f"<section><h3>{escape(run.name)}</h3><p>{escape(run.model)}</p>{said}<table><tr>{head}</tr>{rows}</table>{moved}</section>"


def _keywords(one: Answer) -> str:
    return f"<small>{escape(', '.join(one.keywords)) or 'none'}</small>"


def _prior(change: PriorChange) -> str:
    """Shows how far the prior moved, in numbers and as bars, one for each dimension of z."""
    shift = change.shift
    rows = {
        "|Δμ|/σ, mean over dimensions": f"{shift.mean():.3f}", "|Δμ|/σ, largest": f"{shift.max():.3f} (dimension {shift.argmax() + 1})",
        "KL(edited ‖ own)": f"{change.kl:.3f} nats", "KL(own ‖ edited)": f"{change.kl_back:.3f} nats",
    }  # fmt: skip
    table = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows.items())
    return f"<h4>How far the prior of z moved</h4><table>{table}</table>{bars(shift)}<small>|Δμ|/σ of each dimension of z</small>"


def bars(values: np.ndarray) -> str:
    """Draws values [Z] of at least 0 as bars in SVG. A dashed line stands at 1, which is one standard deviation."""
    top = max(1.0, float(values.max()))
    drawn = "".join(f'<rect x="{i + 0.1}" y="{1 - v / top:.4f}" width="0.8" height="{v / top:.4f}"/>' for i, v in enumerate(values))
    line = (
        f'<path d="M0 {1 - 1 / top:.4f}H{len(values)}" stroke="currentColor" stroke-dasharray="4" vector-effect="non-scaling-stroke"/>'
        f'<path d="M0 1H{len(values)}" stroke="currentColor" vector-effect="non-scaling-stroke"/>'
    )
    label = f"largest {values.max():.3f}, of {len(values)} dimensions"
    box = f'viewBox="0 0 {len(values)} 1" preserveAspectRatio="none"'
    return f'<svg role="img" aria-label="{label}" {box} fill="currentColor">{drawn}{line}</svg>'


def blocks(runs: Sequence[EditableRun]):
    """Makes the gradio page, which is not served yet."""
    import gradio

    most = min(run.most_keywords for run in runs)

    def find_keywords(text: str) -> tuple[str, str, str]:
        try:
            return find(runs, text), "", text
        except UserError as error:
            return "", problem(error), ""

    def compare(text: str, keywords: str, found_for: str) -> tuple[str, str, str]:
        try:
            if text != found_for:  # keywords of another text would say nothing about this one
                keywords = find(runs, text)
            return keywords, answer(runs, text, keywords), text
        except UserError as error:
            return keywords, problem(error), found_for

    with gradio.Blocks(title=TITLE, analytics_enabled=False) as made:
        gradio.Markdown(f"# {TITLE}\nType a text, find its keywords, edit them, and compare: {', '.join(run.name for run in runs)}.")
        text = gradio.Textbox(label="Text (a dialogue's turns, a story's sentences: one a line)", lines=2, elem_id="text")
        finder = gradio.Button("Find keywords", elem_id="find")
        keywords = gradio.Textbox(
            label="Keywords, best first, separated by commas", info=f"Remove, add or reorder them; at most {most}.", elem_id="keywords"
        )
        comparer = gradio.Button("Compare", variant="primary", elem_id="compare")
        results = gradio.HTML(elem_id="results")
        found_for = gradio.State("")
        gradio.on([finder.click, text.submit], find_keywords, [text], [keywords, results, found_for])
        gradio.on([comparer.click, keywords.submit], compare, [text, keywords, found_for], [keywords, results, found_for])
    return made


class Private:
    """ASGI middleware that sends `POLICY` with every answer, so that browsers ask no other host for anything."""

    def __init__(self, app) -> None:
        self._app = app

    async def __call__(self, scope, receive, send) -> None:
        async def send_with_policy(message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), (b"content-security-policy", POLICY)]}
            await send(message)

        await self._app(scope, receive, send_with_policy)


def serve(runs: Sequence[EditableRun], listener: socket.socket) -> None:
    """Serves the page on an open socket until Ctrl-C."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import, after which it may report visits
    import gradio
    import uvicorn
    from fastapi import FastAPI

    with contextlib.redirect_stdout(io.StringIO()):  # it prints "new /"
        app = gradio.mount_gradio_app(FastAPI(openapi_url=None), blocks(runs), path="/", ssr_mode=False, footer_links=[])
    print(f"the page: {loopback.url(listener)} (Ctrl-C ends it)", flush=True)
    uvicorn.Server(uvicorn.Config(Private(app), log_level="warning")).run(sockets=[listener])
