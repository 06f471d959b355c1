"""Names that a person may give, and the folders of classes."""

from __future__ import annotations

from crkd.review.decision_entries import check_name
from crkd.review.export_images import safe_folder_names


def test_an_emoji_newer_than_this_python_is_a_name() -> None:
    # U+1FAE8 is of Unicode 15, and Python 3.11 knows Unicode 14.
    for name in ("\U0001fae8", "a\u200db", "\u30b5\u30af\u30e9", "7"):
        assert check_name(name, "FILE") == name


def test_folder_names_are_fit_and_different() -> None:
    names = ["..", "a/b", "a\\b", "CON", "e" * 300, "cat", "CAT", "\u00e9", "e\u0301", ".hidden"]
    places = safe_folder_names(names)
    assert len({p.casefold() for p in places}) == len(names)
    assert not any({"/", "\\"} & set(p) or p in ("", ".", "..") or p[0] == "." for p in places)
    assert max(map(len, places)) <= 130
