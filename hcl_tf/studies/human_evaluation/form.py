"""Makes an annotator's sheet as one HTML file that needs nothing else: no network, no server, no installation.

templates/form.html is the page, into which form.css and form.js go. The page's policy names the hashes of both, so that no other script
or style runs in it, whatever a generated text holds, and nothing is ever loaded or sent.
"""

import base64
import hashlib
import html
import json
from importlib import resources

from hcl_tf.studies.human_evaluation.sheets import COLUMNS, rows
from hcl_tf.studies.human_evaluation.study import SCALES, SCORES, Study


def form(study: Study, annotator: int, guideline: list[str], file: str) -> str:
    """Makes the page of an annotator.

    Args:
      guideline: paragraphs. file: the name under which the filled sheet is downloaded.
    """
    style, script = _part("css"), _part("js")
    parts = {
        "POLICY": f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; form-action 'none'",
        "SHEET": html.escape(study.sheet(annotator)),
        "STYLE": style,
        "SCRIPT": script,
        "GUIDELINE": "\n".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in guideline),
        # No `<`, so that no text can end the element that holds the data.
        "DATA": json.dumps(_data(study, annotator, file)).replace("<", "\\u003c"),
    }
    pieces = _part("html").split("@")  # the marks are the odd pieces; what is put in is not searched for marks again
    return "".join(parts[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def _part(kind: str) -> str:
    return resources.files("hcl_tf.studies.human_evaluation").joinpath("templates", f"form.{kind}").read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data(study: Study, annotator: int, file: str) -> dict:
    shown = []
    for cells in rows(study, annotator):
        item, label = study.items[int(cells[1]) - 1], cells[2]
        # `cells` go back into the sheet; a person reads the texts without the apostrophe that `sheets.cell` puts before some.
        shown.append(
            {"item": cells[1], "label": label, "source": item.source, "output": item.outputs[label], "cells": cells[: -len(SCALES)]}
        )
    return {"id": study.sheet(annotator), "file": file, "columns": COLUMNS, "scales": SCALES, "scores": SCORES, "rows": shown}
