"""Types and ranges of the values of untrusted JSON files.

Every value is checked on its own: a refusal names the file, the entry, its value and the values
that are allowed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from crkd.core.errors import InputError

LONGEST_NAME: Final = 10_000
_RAW_BYTES: Final = "".join(map(chr, range(0xDC80, 0xDD00)))
"""Lone surrogates: bytes of a path that are not UTF-8."""

Check = Callable[[Any], bool]


@dataclass(frozen=True)
class Allowed:
    """Values that an entry may have.

    Attributes:
        check: whether a value is one of them.
        words: the values in words, for a message.
    """

    check: Check
    words: str

    def or_null(self) -> Allowed:
        """Return the same values and null."""
        return Allowed(lambda v: v is None or self.check(v), f"{self.words}, or null")


def is_finite(value: Any) -> bool:
    """Return whether a value of a JSON file is a number that a float can hold.

    >>> [is_finite(value) for value in (1, 0.5, -2.0, True, "1", float("nan"), 10**400)]
    [True, True, True, False, False, False, False]
    """
    return type(value) in (int, float) and -sys.float_info.max <= value <= sys.float_info.max


def whole(low: int, high: int) -> Allowed:
    """Return the whole numbers from ``low`` to ``high``; true and false are none."""
    return Allowed(
        lambda v: type(v) is int and low <= v <= high, f"a whole number from {low} to {high}"
    )


def number(low: float, high: float) -> Allowed:
    """Return the finite numbers from ``low`` to ``high``."""
    return Allowed(
        lambda v: type(v) in (int, float) and low <= v <= high, f"a number from {low:g} to {high:g}"
    )


def one_of(*values: str) -> Allowed:
    """Return some texts."""
    return Allowed(lambda v: isinstance(v, str) and v in values, f"one of {', '.join(values)}")


def text(longest: int = LONGEST_NAME) -> Allowed:
    """Return the texts of up to so many characters that UTF-8 can hold."""
    return Allowed(
        lambda v: isinstance(v, str) and len(v) <= longest and _is_unicode(v),
        f"Unicode text of at most {longest} characters",
    )


def path_text(longest: int = LONGEST_NAME) -> Allowed:
    """Return the texts of up to so many characters that name a file; its bytes may be any."""
    return Allowed(
        lambda v: isinstance(v, str) and len(v) <= longest and _is_unicode(v, but=_RAW_BYTES),
        f"a path of at most {longest} characters",
    )


def list_of(entries: Allowed, low: int, high: int) -> Allowed:
    """Return the lists of ``low`` to ``high`` allowed entries; a tuple counts as a list."""
    count = f"{low}" if low == high else f"{low} to {high}"
    return Allowed(
        lambda v: (
            isinstance(v, list | tuple) and low <= len(v) <= high and all(map(entries.check, v))
        ),
        f"a list of {count} entries, each {entries.words}",
    )


def block(required: Mapping[str, Allowed], others: Allowed | None = None) -> Allowed:
    """Return the blocks with some entries; ``others`` allows more of them."""

    def check(value: Any) -> bool:
        if not isinstance(value, dict) or not required.keys() <= value.keys():
            return False
        rest = [entry for name, entry in value.items() if name not in required]
        return all(allowed.check(value[name]) for name, allowed in required.items()) and (
            all(map(others.check, rest)) if others is not None else not rest
        )

    parts = "; ".join(f"{name!r}: {allowed.words}" for name, allowed in required.items())
    return Allowed(check, f"a block with {parts}" if parts else "a block")


ANYTHING: Final = Allowed(lambda v: True, "any value")
BOOLEAN: Final = Allowed(lambda v: isinstance(v, bool), "true or false")
DIGEST: Final = Allowed(
    lambda v: isinstance(v, str) and len(v) == 64 and set(v) <= set("0123456789abcdef"),
    "a SHA-256 of 64 hexadecimal digits",
)


def check_fields(
    values: Mapping[str, Any],
    fields: Mapping[str, Allowed],
    origin: Path | str,
    *,
    optional: Set[str] = frozenset(),
    prefix: str = "",
) -> None:
    """Check every entry of a block.

    Args:
        values: the block.
        fields: the allowed values of each entry.
        origin: the file, for messages.
        optional: entries that may be missing.
        prefix: name of the block, for messages.

    Raises:
        InputError: an entry is missing, unknown, of the wrong type or out of range.
    """
    unknown = [name for name in values if name not in fields]
    missing = sorted(fields.keys() - values.keys() - optional)
    if unknown or missing:
        fault = f"no entry {missing[0]!r}" if missing else f"an unknown entry {shown(unknown[0])}"
        place = f" in {prefix.rstrip('.')}" if prefix else ""
        raise InputError(f"{origin} has {fault}{place}; restore the file")
    for name, allowed in fields.items():
        if name in values and not allowed.check(values[name]):
            raise wrong_field(origin, f"{prefix}{name}", values[name], allowed.words)


def wrong_field(origin: Path | str, name: str, value: object, allowed: str) -> InputError:
    """Return the refusal of one entry."""
    return InputError(
        f"{origin}: {name} is {shown(value)}, but must be {allowed}; restore the file"
    )


def shown(value: object) -> str:
    """Return a value in at most 60 characters that every terminal can print.

    >>> shown("ab"), shown(float("inf"))
    ("'ab'", 'inf')
    """
    if isinstance(value, int) and abs(value) > 10**30:
        return "a number of more than 30 digits"
    written = ascii(value) if not isinstance(value, list | dict) else _container(value)
    return written if len(written) <= 60 else f"{written[:57]}..."


def _container(value: list[Any] | dict[str, Any]) -> str:
    kind = "a list" if isinstance(value, list) else "a block"
    return f"{kind} of {len(value)} entries" if value else f"{kind} without entries"


def _is_unicode(value: str, but: str = "") -> bool:
    """Return whether a text has no lone surrogate, which UTF-8 cannot hold, except ``but``."""
    return value.isascii() or not any(
        "\ud800" <= letter <= "\udfff" and letter not in but for letter in value
    )
