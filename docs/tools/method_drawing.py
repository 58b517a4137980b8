"""Draws docs/method.svg, the paper's model in one picture: python docs/tools/method_drawing.py"""

from html import escape
from pathlib import Path

PICTURE = Path(__file__).parents[1] / "method.svg"
WIDTH, HEIGHT = 880, 430

# name -> left, top, width, lines; the first line stands out.
BOXES = {
    "source": (16, 40, 176, ["source x", "How can I lose weight?"]),
    "keywords": (16, 150, 176, ["keywords", "weight"]),
    "targets": (16, 320, 176, ["target y⁺, negative y⁻", "in training"]),
    "encoder": (240, 40, 130, ["BERT encoder", "of every text"]),
    "graph": (240, 150, 130, ["keyword graph", "states u, two rounds"]),
    "prior": (430, 150, 160, ["prior p(z | x, u)", "mean and deviation"]),
    "posterior": (430, 320, 160, ["posterior q(z | x, y)", "of y⁺, of y⁻"]),
    "z": (640, 150, 50, ["z", ""]),
    "decoder": (730, 40, 130, ["Transformer", "decoder"]),
    "output": (730, 150, 130, ["output", "beam search of 4"]),
}
# from, its side, to, its side, label; a side is l, r, t or b.
ARROWS = [
    ("source", "r", "encoder", "l", ""),
    ("keywords", "r", "graph", "l", ""),
    ("encoder", "r", "decoder", "l", "states of x"),
    ("encoder", "r", "prior", "t", ""),
    ("graph", "r", "prior", "l", "u"),
    ("targets", "r", "posterior", "l", "through the encoder"),
    ("prior", "r", "z", "l", ""),
    ("z", "t", "decoder", "l", ""),
    ("decoder", "b", "output", "t", ""),
]
# centre, top, width, lines: what the losses compare.
LOSSES = [
    (510, 240, 170, ["L_ins: q of y⁺ near p,", "q of y⁻ far from it"]),
    (305, 240, 190, ["L_key: u of x near u of y⁺,", "far from impostors"]),
    (735, 326, 250, ["L_ma: u of y⁺ nearer to q of y⁺", "than an impostor is"]),
]
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#333;text-anchor:middle}.first{font-weight:600;fill:#1a237e}"
    ".box{fill:#e8eaf6;stroke:#7986cb}.loss{fill:#fff8e1;stroke:#ffb300}.small{font-size:12px;fill:#555}"
    "path{stroke:#5c6bc0;fill:none;stroke-width:1.5;marker-end:url(#head)}.page{fill:#fff}"
)
HIGH = 50


def picture() -> str:
    """Returns the drawing as SVG."""
    parts = [box(*BOXES[name]) for name in BOXES] + [arrow(*ends) for ends in ARROWS] + [loss(*one) for one in LOSSES]
    parts.append(f'<text class="small" x="{WIDTH / 2}" y="{HEIGHT - 24}">In training z is drawn from q(z | x, y⁺), and the loss is '
                 "NLL of y⁺ + KL(q ‖ p) + L_ins + L_key + L_ma. At test z is the prior’s mean.</text>")  # fmt: skip
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">'
    title = "<title>The model: keywords act on the prior of z through a graph, and three contrasts act in training</title>"
    marker = '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    marker += '<path d="M0 0L8 4L0 8z" style="fill:#5c6bc0;stroke:none;marker-end:none"/></marker></defs>'
    page = f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>'
    return "\n".join([head, title, f"<style>{STYLE}</style>", marker, page, *parts, "</svg>", ""])


def box(left: int, top: int, width: int, lines: list[str]) -> str:
    """Returns a box with its lines."""
    lines = [line for line in lines if line]
    first = top + (HIGH - 17 * (len(lines) - 1)) / 2 + 5
    texts = [
        f'<text class="{"small" if number else "first"}" x="{left + width / 2}" y="{first + 17 * number}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    ]
    return f'<rect class="box" x="{left}" y="{top}" width="{width}" height="{HIGH}" rx="6"/>' + "".join(texts)


def loss(centre: int, top: int, width: int, lines: list[str]) -> str:
    """Returns a loss's box."""
    texts = "".join(f'<text class="small" x="{centre}" y="{top + 18 + 15 * n}">{escape(line)}</text>' for n, line in enumerate(lines))
    high = 27 + 15 * (len(lines) - 1)
    return f'<rect class="loss" x="{centre - width / 2}" y="{top}" width="{width}" height="{high}" rx="12"/>{texts}'


def arrow(start: str, leaves: str, end: str, enters: str, label: str) -> str:
    """Returns an arrow from a side of one box to a side of another."""
    (x, y), (to_x, to_y) = _side(start, leaves), _side(end, enters)
    text = f'<text class="small" x="{(x + to_x) / 2}" y="{(y + to_y) / 2 - 7}">{escape(label)}</text>' if label else ""
    return f'<path d="M{x} {y}L{to_x} {to_y}"/>{text}'


def _side(name: str, side: str) -> tuple[float, float]:
    left, top, width, _ = BOXES[name]
    return {
        "l": (left, top + HIGH / 2),
        "r": (left + width, top + HIGH / 2),
        "t": (left + width / 2, top),
        "b": (left + width / 2, top + HIGH),
    }[side]


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
