"""The page in pieces: its bytes are those of a page made at once, and its memory is that of one."""

from __future__ import annotations

import html
import json
import re
import tracemalloc
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest

from crkd.review import page_html
from crkd.review.page_html import BLOCK, SCRIPTS, digest, html_pieces, render


def made_at_once(data: dict[str, Any]) -> str:
    """Return the page as one text, filled in one pass."""
    parts = files("crkd.review") / "page_files"
    script = "\n".join((parts / f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    style = (parts / "page.css").read_text("utf-8")
    plain = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character, escaped in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        plain = plain.replace(character, escaped)
    fields = {
        "title": html.escape(data["title"]),
        "script-hash": digest(script),
        "style-hash": digest(style),
        "style": style,
        "script": script,
        "data": plain,
    }
    markup = (parts / "page.html").read_text("utf-8")
    return re.sub(r"\{\{([a-z-]+)\}\}", lambda field: fields[field[1]], markup)


def entries(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {
            "id": f"photos & <b>/ü {number}.png",
            "class": number % 7,
            "at": [0.25, -1.0],
            "near": [[1, 0.5], [2, 0.125]],
        }


@pytest.mark.parametrize("count", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_pieces_are_those_of_a_page_made_at_once(count: int) -> None:
    data = {"title": "<b>{{data}}", "images": list(entries(count)), "root": None, "classes": []}
    pieces = list(html_pieces(data | {"images": entries(count)}))
    assert "".join(pieces) == made_at_once(data) == render(data)
    longest = max(len(piece) for piece in pieces if "photos" in piece or count == 0)
    assert count == 0 or longest <= len(json.dumps(list(entries(BLOCK)))) + 100 * BLOCK


def peak_of_pieces(count: int) -> int:
    tracemalloc.start()
    try:
        for _ in html_pieces({"title": "", "images": entries(count)}):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_memory_of_a_page_does_not_grow_with_its_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page_html, "BLOCK", 50)
    peak_of_pieces(100)
    small, large = peak_of_pieces(100), peak_of_pieces(3000)
    assert large < small + 50_000, "the text alone of these images has 250 kB"
