"""Drawing of docs/images/data-flow.svg, the data flow of both stages.

The colors of the SVG follow the reader's light or dark setting.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

WIDTH: Final = 1000
HEIGHT: Final = 520

STYLE: Final = """
  svg { font: 15px system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; }
  .page { fill: #ffffff; } .band { fill: #f4f5f4; } text { fill: #1c2024; }
  .note { fill: #60676e; font-size: 13px; } .stage { font-weight: 600; }
  .box { stroke: #8b939b; fill: #ffffff; } .net { stroke: #1f5fae; fill: #eaf1fa; }
  .frozen { stroke: #60676e; fill: #ecedeb; stroke-dasharray: 5 4; }
  .loss { stroke: #8a5a00; fill: #f8efdc; } .way { stroke: #60676e; fill: none; stroke-width: 1.5; }
  .tip { fill: #60676e; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #16181b; } .band { fill: #1e2125; } text { fill: #e6e8ea; }
    .note { fill: #a5adb5; } .box { stroke: #6d757d; fill: #16181b; }
    .net { stroke: #7db2f2; fill: #22303f; } .frozen { stroke: #9aa2aa; fill: #2a2e33; }
    .loss { stroke: #dfb25f; fill: #37301f; } .way { stroke: #9aa2aa; } .tip { fill: #9aa2aa; }
  }
"""

# Name: kind, left, top, width, height, lines of text.
BOXES: Final = {
    "labeled": ("box", 30, 62, 150, 50, "labeled images", "known classes"),
    "first": ("net", 395, 62, 130, 50, "backbone"),
    "first head": ("net", 575, 62, 130, 50, "known head"),
    "first loss": ("loss", 796, 62, 176, 50, "cross-entropy", "with the labels"),
    "unlabeled": ("box", 30, 362, 150, 50, "unlabeled images", "novel classes"),
    "views": ("box", 222, 292, 126, 50, "random views"),
    "teacher": ("frozen", 395, 202, 130, 50, "teacher", "stage 1, frozen"),
    "teacher logits": ("frozen", 575, 202, 130, 50, "known logits"),
    "student": ("net", 395, 292, 130, 50, "student", "a copy that trains"),
    "known": ("net", 575, 292, 130, 50, "known head"),
    "novel": ("net", 575, 382, 130, 50, "novel heads"),
    "sinkhorn": ("box", 575, 452, 130, 50, "Sinkhorn", "equal shares"),
    "relation": ("loss", 796, 202, 176, 50, "class relation", "unlabeled alone"),
    "swapped": ("loss", 796, 337, 176, 50, "swapped prediction", "of another view's label"),
}

# Corners of each arrow; the last one has the tip.
WAYS: Final = (
    ((180, 87), (395, 87)),
    ((525, 87), (575, 87)),
    ((705, 87), (796, 87)),
    ((460, 112), (460, 202)),
    ((105, 112), (105, 302), (222, 302)),
    ((180, 387), (205, 387), (205, 330), (222, 330)),
    ((348, 305), (365, 305), (365, 227), (395, 227)),
    ((348, 317), (395, 317)),
    ((525, 227), (575, 227)),
    ((705, 227), (796, 227)),
    ((525, 317), (575, 317)),
    ((550, 317), (550, 407), (575, 407)),
    ((640, 432), (640, 452)),
    ((705, 310), (775, 310), (775, 240), (796, 240)),
    ((705, 325), (740, 325), (740, 352), (796, 352)),
    ((705, 407), (740, 407), (740, 367), (796, 367)),
    ((705, 477), (890, 477), (890, 387)),
)

TEXTS: Final = (
    ("stage", 30, 42, "Stage 1: learn the known classes"),
    ("stage", 122, 182, "Stage 2: find the novel classes as well"),
    ("note", 470, 142, "copied, then frozen"),
    ("note", 300, 80, "random views"),
    ("note", 748, 470, "pseudo-labels"),
    ("note", 715, 424, "scores"),
)


def figure() -> str:
    """Return the drawing as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>Data flow of both stages</title>",
        f"<style>{STYLE}</style>",
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path class="tip" d="M0 0 8 4 0 8z"/></marker>',
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>',
        '<rect class="band" x="12" y="18" width="976" height="108" rx="10"/>',
        '<rect class="band" x="12" y="158" width="976" height="354" rx="10"/>',
    ]
    for corners in WAYS:
        points = " ".join(f"{x},{y}" for x, y in corners)
        parts.append(f'<polyline class="way" points="{points}" marker-end="url(#tip)"/>')
    for kind, x, y, width, height, *lines in BOXES.values():
        parts.append(
            f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="7"/>'
        )
        for number, line in enumerate(lines):
            place = y + height / 2 + 5 + 18 * (number - (len(lines) - 1) / 2)
            note = ' class="note"' if number else ""
            parts.append(
                f'<text x="{x + width / 2:g}" y="{place:g}" text-anchor="middle"{note}>'
                f"{line}</text>"
            )
    parts += [f'<text class="{kind}" x="{x}" y="{y}">{text}</text>' for kind, x, y, text in TEXTS]
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    Path(__file__).with_name("data-flow.svg").write_text(figure(), encoding="utf-8")
