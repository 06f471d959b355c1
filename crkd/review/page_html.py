"""HTML of the review page, made piece by piece."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any, Final

SCRIPTS: Final = (
    "elements",
    "images",
    "decisions",
    "problems",
    "storage",
    "vectors",
    "views",
    "grid",
    "selection",
    "viewer",
    "class_list",
    "class_detail",
    "split",
    "map",
    "record",
    "keys",
)
"""Scripts of the page in the order of their text; together they form one function."""
BLOCK: Final = 1024
"""Entries of a piece."""


def render(data: Mapping[str, Any]) -> str:
    """Return the page as HTML, as :func:`html_pieces` makes it."""
    return "".join(html_pieces(data))


def html_pieces(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the page as HTML.

    External text, such as file names, is included as JSON without ``<``, and the script inserts it
    only as text nodes. A content security policy forbids all other scripts and all resources but
    image files of this computer.

    Args:
        data: content of the page in plain values. An iterator is written as a list, and only some
            of its items are in memory at a time.
    """
    parts = files("crkd.review") / "page_files"
    markup, style = ((parts / name).read_text("utf-8") for name in ("page.html", "page.css"))
    script = "\n".join((parts / f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    fields = {
        "title": html.escape(data["title"]),
        "script-hash": digest(script),
        "style-hash": digest(style),
        "style": style,
        "script": script,
    }
    # Names of fields alternate with the text between them. Inserted text is not searched for
    # fields again.
    for number, text in enumerate(re.split(r"\{\{([a-z-]+)\}\}", markup)):
        if number % 2 == 0:
            yield text
        elif text == "data":
            yield from _object(data)
        else:
            yield fields[text]


def digest(text: str) -> str:
    """Return the SHA-256 of a text as a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _object(data: Mapping[str, Any]) -> Iterator[str]:
    between = "{"
    for name, value in data.items():
        yield f"{between}{_json(name)}:"
        if isinstance(value, Iterator):
            yield from _list(value)
        else:
            yield _json(value)
        between = ","
    yield "}"


def _list(items: Iterator[Any]) -> Iterator[str]:
    between = "["
    while block := list(itertools.islice(items, BLOCK)):
        yield between + _json(block)[1:-1]
        between = ","
    yield "]" if between == "," else "[]"


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
