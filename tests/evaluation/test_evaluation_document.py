"""The figures that docs/evaluation.md works out by hand."""

import re

from tests.support import ROOT

DOCUMENT = ROOT / "docs" / "evaluation.md"


def test_figures_by_hand_are_the_figures_of_the_code():
    text = DOCUMENT.read_text(encoding="utf-8")
    by_hand = text[text.index("## Example") : text.index("The same in code")]
    figures = re.findall(r"\*\*(\d\.\d{3})\*\*", by_hand)
    assert figures == ["0.800", "0.833", "0.500", "0.333", "0.400", "0.600", "0.750", "0.500"]
