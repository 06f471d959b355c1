"""The folder of the user's cache, and paths in messages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crkd.core.errors import InputError
from crkd.core.paths import cache_folder, readable


@pytest.mark.parametrize("kind", [str, Path])
def test_bytes_that_are_not_utf8_are_shown_as_escapes(kind: type) -> None:
    name = os.fsdecode("é/".encode() + b"\xff.png")
    assert readable(kind(name)) == "é/\\xff.png"


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"CRKD_CACHE": "/named", "XDG_CACHE_HOME": "/cache", "HOME": "/home/a"}, "/named"),
        ({"CRKD_CACHE": "", "XDG_CACHE_HOME": "/cache", "HOME": "/home/a"}, "/cache/crkd"),
        ({"XDG_CACHE_HOME": "", "HOME": "/home/a"}, "/home/a/.cache/crkd"),
        ({"HOME": "/home/a"}, "/home/a/.cache/crkd"),
    ],
)
def test_the_most_specific_name_counts(
    environment: dict[str, str], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CRKD_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(wanted)


def test_a_user_without_a_home_names_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run as a number that has no entry among the users."""
    for name in ("CRKD_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(InputError, match=r"no home folder .* CRKD_CACHE"):
        cache_folder()
    monkeypatch.setenv("CRKD_CACHE", "/named")
    assert cache_folder() == Path("/named")
