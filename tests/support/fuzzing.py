"""Altered texts and bytes, and a count of those that a reader takes or refuses."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from crkd.core.errors import InputError
from tests.support.reliability import LONG

EXAMPLES = 20_000 if LONG else 300
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=not LONG,
    suppress_health_check=list(HealthCheck),
)
ODD = ("null", "[]", "{}", "-1", "1e999", ".nan", "!!python/name:os.system", "*a", "&a [*a]", "'")


def text_of(original: str) -> st.SearchStrategy[str]:
    """Any text, and the original with some lines replaced, repeated, left out or indented."""
    lines = original.splitlines()
    pieces = st.one_of(
        st.sampled_from(lines),
        st.sampled_from(ODD),
        st.builds(str.__add__, st.sampled_from(["", " ", "  ", "- "]), st.sampled_from(lines)),
        st.builds(
            lambda line, odd: f"{line.split(':')[0]}: {odd}",
            st.sampled_from(lines),
            st.one_of(st.sampled_from(ODD), st.text(max_size=12)),
        ),
    )
    edits = st.lists(st.tuples(st.integers(0, len(lines)), pieces), max_size=5)

    def edited(changes: list[tuple[int, str]]) -> str:
        changed = list(lines)
        for place, piece in changes:
            changed[place : place + 1] = [piece]
        return "\n".join(changed)

    return st.one_of(st.text(max_size=200), st.builds(edited, edits))


def bytes_of(original: bytes) -> st.SearchStrategy[bytes]:
    """Any bytes, and the original with some bytes changed and some cut off."""
    edit = st.tuples(st.integers(0, len(original) - 1), st.binary(min_size=1, max_size=8))

    def edited(changes: list[tuple[int, bytes]], length: int) -> bytes:
        changed = bytearray(original)
        for place, piece in changes:
            changed[place : place + len(piece)] = piece
        return bytes(changed[:length])

    lengths = st.one_of(st.just(len(original) + 64), st.integers(0, len(original)))
    return st.one_of(
        st.binary(max_size=200), st.builds(edited, st.lists(edit, max_size=6), lengths)
    )


def refused_or_read(read: Callable[[], object]) -> bool:
    try:
        read()
    except InputError:
        return False
    return True


class Tally:
    """Numbers of accepted and refused inputs; both must occur."""

    def __init__(self) -> None:
        self.read = self.refused = 0

    def __call__(self, read: Callable[[], object]) -> None:
        if refused_or_read(read):
            self.read += 1
        else:
            self.refused += 1
