from __future__ import annotations

import numpy as np
import pytest

from crkd.review.class_summaries import FoundClass
from crkd.review.contact_sheet import CAPTION_WIDTH, caption_lines
from crkd.review.wrapped_text import cut, fitted, text_width, wrapped

NAMES = [
    "a rather long name of a known class of things",
    "Großer Feuerfalter (Lycaena dispar), Weibchen",
    "$x^2$",
    "Spotted lanternfly, adult with open wings, seen from above 2024",
    "W" * 100,
    "novel-0",
]


def entry(class_id: int) -> FoundClass:
    return FoundClass(class_id, np.arange(1234), [(0, 0.5), (1, 0.25)], None)


@pytest.mark.parametrize("class_id", [3, 4, 5])
def test_a_caption_fits_next_to_the_images(class_id: int) -> None:
    title, near = caption_lines(entry(class_id), NAMES)
    assert all(text_width(line, True) <= CAPTION_WIDTH for line in title)
    assert all(text_width(line, False) <= CAPTION_WIDTH for line in near)
    assert len(title) <= 2
    assert len(near) <= 2
    # What is cut is the name.
    assert "".join(title).endswith("1,234 images")
    assert "50%" in " ".join(near)
    assert "25%" in " ".join(near)
    assert title[0][:3] == NAMES[class_id][:3]


def test_a_short_caption_is_one_line() -> None:
    title, near = caption_lines(FoundClass(5, np.arange(1), [], None), NAMES)
    assert title == ["novel-0: 1 image"]
    assert near == []


def test_words_stay_whole_where_they_fit() -> None:
    width = text_width("two words", False)
    assert wrapped("two words here", width) == ["two words", "here"]
    assert wrapped("", width) == []
    long = wrapped("W" * 50, width)
    assert "".join(long) == "W" * 50
    assert all(text_width(line, False) <= width for line in long)


def test_names_are_cut_no_more_than_needed() -> None:
    def make(cut_name):  # type: ignore[no-untyped-def]
        return f"{cut_name('abcdefghij')}: 5"

    width = text_width("abcdefg…: 5", False)
    (line,) = fitted(make, width, 1, longest=10)
    assert line == "abcdefg…: 5"
    assert cut("abc def", 5) == "abc…", "no blank before the dots"
