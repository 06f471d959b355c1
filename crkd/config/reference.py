"""Configuration reference page, generated from the schema."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from typing import Any, Literal

from crkd.config.check import Range, field_types, plain
from crkd.config.schema import Config

INTRODUCTION = """\
# Configuration

This page is written by `python -m crkd.config.reference > docs/configuration.md`.

Later sources override earlier ones: the defaults of the schema in `crkd/config/`,
`configs/datasets/DATASET.yaml` if that file exists, `--config FILE`, `--set key=value`, the other
flags. A file states only the keys that differ. Its key `extends: NAME` names the file that it
changes: a path relative to the file itself, or a shipped configuration. That file may extend
another, to any depth. A value of `--set` is YAML; that of a key of text is taken as it is, unless
it is null or in quotes. Unknown keys, duplicate keys, wrong types and values out of range are
errors. Every run folder contains the resolved configuration.
"""


def reference() -> str:
    """Return the whole reference as Markdown."""
    return INTRODUCTION + "".join(_block(Config, "", plain(Config())))


def _block(cls: type, prefix: str, defaults: dict[str, Any]) -> list[str]:
    """Return the sections of a block and of the blocks inside it."""
    rows, inner = [], []
    notes = _notes(cls)
    for name, expected in field_types(cls).items():
        if dataclasses.is_dataclass(expected):
            inner += _block(typing.cast(type, expected), f"{prefix}{name}.", defaults[name])
            continue
        allowed, text = allowed_values(expected), notes.get(name, "")
        rows.append(f"| `{prefix}{name}` | {allowed} | `{_shown(defaults[name])}` | {text} |\n")
    title = prefix.rstrip(".") or "top level"
    columns = "| key | allowed | default | meaning |\n|---|---|---|---|\n"
    return [f"\n## {title}\n\n{_summary(cls)}\n\n{columns}", *rows, *inner]


def allowed_values(expected: Any) -> str:
    """Return a description of the values that a field of this type admits.

    >>> allowed_values(int | None)
    'whole number or null'
    """
    origin, inner = typing.get_origin(expected), typing.get_args(expected)
    if origin is typing.Annotated:
        bounds = [str(b) for b in inner[1:] if isinstance(b, Range)]
        return " ".join([allowed_values(inner[0]), *bounds])
    if origin in (types.UnionType, typing.Union):
        return " or ".join([*(allowed_values(a) for a in inner if a is not types.NoneType), "null"])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin is tuple:
        item = inner[0]
        if dataclasses.is_dataclass(item):
            keys = ", ".join(field_types(typing.cast(type, item)))
            return f"list of blocks {{{keys}}}"
        return f"list of {allowed_values(item)}"
    if origin is dict:
        return "block of options"
    return {int: "whole number", float: "number", bool: "true or false"}.get(expected, "text")


def _summary(cls: type) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]


def _notes(cls: type) -> dict[str, str]:
    """Return the docstring of each field of a dataclass."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    notes = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        is_note = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_note:
            text = str(typing.cast(ast.Constant, typing.cast(ast.Expr, below).value).value)
            notes[field.target.id] = " ".join(text.split())
    return notes


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201
