"""The worked example of docs/evaluation.md is run, so that the document stays true."""

import doctest
import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "evaluation.md"


def test_code_of_the_document_gives_what_it_shows():
    result = doctest.testfile(str(DOCUMENT), module_relative=False)
    assert result.attempted >= 10
    assert result.failed == 0


def test_figures_by_hand_are_the_figures_of_the_code():
    text = DOCUMENT.read_text(encoding="utf-8")
    by_hand = text[text.index("## One example by hand") : text.index("The same in code")]
    figures = re.findall(r"\*\*(\d\.\d{3})\*\*", by_hand)
    assert figures == ["0.800", "0.833", "0.500", "0.333", "0.400", "0.600", "0.750", "0.500"]
