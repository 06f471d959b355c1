"""Conversion of plain YAML values into typed, range-checked dataclasses.

The schema is a tree of frozen dataclasses. The type of a field defines the allowed values:
``int``, ``float``, ``bool``, ``str``, ``Literal[...]``, ``X | None``, ``tuple[X, ...]``,
``tuple[X, Y]``, ``dict[str, Any]`` and other dataclasses. :class:`Range` inside ``Annotated``
limits a number.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import re
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from crkd.core.errors import InputError

D = TypeVar("D")


@dataclass(frozen=True)
class Range:
    """Bounds of a number; ``open_low`` excludes the lower bound."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"{'above' if self.open_low else 'at least'} {self.low:g}"
        return f"in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}]"

    def admits(self, value: float) -> bool:
        """Return whether ``value`` is finite and inside the bounds."""
        above = value > self.low if self.open_low else value >= self.low
        return math.isfinite(value) and above and value <= self.high


@functools.cache
def field_types(cls: type) -> Mapping[str, Any]:
    """Return the resolved type of every field of a dataclass, ``Annotated`` kept."""
    # Resolving the annotations of all blocks takes longer than the rest of a configuration.
    return types.MappingProxyType(typing.get_type_hints(cls, include_extras=True))


def is_text(cls: type, key: str) -> bool:
    """Return whether a dotted key of the dataclass ``cls`` is text, or text or null.

    >>> from crkd.config.schema import Config
    >>> is_text(Config, "data.known"), is_text(Config, "data.image_size")
    (True, False)
    """
    expected: Any = cls
    for name in key.split("."):
        if not dataclasses.is_dataclass(expected):
            return False
        expected = field_types(typing.cast(type, expected)).get(name)
    return expected in (str, str | None)


def build(cls: type[D], values: object, key: str = "") -> D:
    """Build the dataclass ``cls`` from a mapping of plain values.

    Args:
        cls: a dataclass whose fields all have defaults.
        values: parsed YAML; every key must be a field.
        key: dotted path of ``values`` in the configuration, for messages.

    Raises:
        InputError: an unknown key, a wrong type or a value out of range; the message names
            the key, the value and the allowed values.
    """
    if not isinstance(values, dict):
        raise InputError(
            f"configuration key {key or '(top level)'!r} must hold a block of keys, "
            f"not {written(values)}; write it as 'key: value' lines"
        )
    known = field_types(typing.cast(type, cls))
    built = {}
    for name, value in values.items():
        place = f"{key}.{name}" if key else str(name)
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            if not near and "options" in known:
                hint = " (options of a name go into the block 'options')"
            raise InputError(
                f"unknown configuration key {place!r}{hint}; "
                f"allowed here: {', '.join(sorted(known))}"
            )
        built[name] = convert(known[name], value, place)
    try:
        return cls(**built)
    except InputError as error:
        raise InputError(f"configuration key {key or '(top level)'!r}: {error}") from None


def convert(expected: Any, value: object, key: str) -> Any:
    """Return ``value`` as the type ``expected``, or raise an error that names ``key``."""
    origin = typing.get_origin(expected)
    if origin is typing.Annotated:
        inner, *bounds = typing.get_args(expected)
        return _bounded(convert(inner, value, key), bounds, key)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        *words, inner = [a for a in typing.get_args(expected) if a is not types.NoneType]
        names = [name for word in words for name in typing.get_args(word)]
        if value in names:
            return value
        try:
            return convert(inner, value, key)
        except InputError as error:
            raise InputError(", or ".join([str(error), *map(repr, names)])) from None
    if origin is Literal:
        allowed = typing.get_args(expected)
        if not isinstance(value, str) or value not in allowed:
            _refuse(key, value, "one of " + ", ".join(map(repr, allowed)))
        return value
    if origin is tuple:
        return _sequence(typing.get_args(expected), value, key)
    if origin is dict:
        if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
            _refuse(key, value, "a block of named options")
        return dict(value)
    if dataclasses.is_dataclass(expected):
        return build(typing.cast(type, expected), value, key)
    return _scalar(expected, value, key)


def _sequence(inner: tuple[Any, ...], value: object, key: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        _refuse(key, value, "a list such as [a, b]")
    items = list(value)
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(convert(inner[0], v, f"{key}[{i}]") for i, v in enumerate(items))
    if len(items) != len(inner):
        _refuse(key, value, f"a list of {len(inner)} values")
    return tuple(
        convert(t, v, f"{key}[{i}]") for i, (t, v) in enumerate(zip(inner, items, strict=True))
    )


def _scalar(expected: type, value: object, key: str) -> Any:
    if expected is float:
        # YAML 1.1 reads "1e-4" as a string, so text that is a number is accepted.
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                _refuse(key, value, "a number")
        # A larger whole number overflows.
        if isinstance(value, int) and abs(value) > sys.float_info.max:
            _refuse(key, value, "a number")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        _refuse(key, value, "a number")
    if expected is int:
        if isinstance(value, str) and re.fullmatch("[+-]?[0-9]{1,18}", value):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        # Generators and tensors hold 64 bits.
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
            return value
        _refuse(key, value, "a whole number")
    if expected is bool:
        if isinstance(value, bool):
            return value
        _refuse(key, value, "true or false")
    if isinstance(value, str):
        return value
    is_short = isinstance(value, float) or (isinstance(value, int) and abs(value) < 10**1000)
    if is_short and not isinstance(value, bool):
        return str(value)
    return _refuse(key, value, "text")


def _bounded(value: Any, bounds: list[Any], key: str) -> Any:
    for bound in bounds:
        if isinstance(bound, Range) and value is not None and not bound.admits(value):
            _refuse(key, value, f"a number {bound}")
    return value


def _refuse(key: str, value: object, allowed: str) -> typing.NoReturn:
    raise InputError(f"configuration key {key!r} is {written(value)}; it must be {allowed}")


def written(value: object) -> str:
    """Return a value of a configuration for a message, cut after 200 characters.

    >>> written("ab"), written([1]), written(16**5000)
    ("'ab'", '[1]', 'a number of too many digits')
    """
    try:
        text = repr(value)
    except ValueError:
        # Python writes no number of more than 4300 digits; hexadecimal ones are read.
        return "a number of too many digits"
    return text if len(text) <= 200 else f"{text[:200]}..."


def plain(config: object) -> Any:
    """Return a configuration as dicts, lists and scalars, ready for YAML or JSON."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, (list, tuple)):
        return [plain(v) for v in config]
    if isinstance(config, dict):
        return {k: plain(v) for k, v in config.items()}
    return config
