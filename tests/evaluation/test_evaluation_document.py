"""Values that docs/evaluation.md computes by hand."""

import re

from crkd.evaluation.protocol_list import PROTOCOLS
from tests.support import ROOT

DOCUMENT = ROOT / "docs" / "evaluation.md"


def test_figures_by_hand_are_the_figures_of_the_code():
    text = DOCUMENT.read_text(encoding="utf-8")
    by_hand = text[text.index("## Example") : text.index("The same in code")]
    values = re.findall(r"\*\*(\d\.\d{3})\*\*", by_hand)
    assert values == ["0.800", "0.833", "0.500", "0.333", "0.400", "0.600", "0.750", "0.500"]


def test_the_document_has_rule_and_source_of_every_protocol():
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    for key, entry in PROTOCOLS.items():
        parts = ", ".join(f"`{part}`" for part in entry.parts)
        groups = ", ".join(entry.groups)
        assert f"| `{key}` | {entry.head} | {parts} | {groups} | {entry.rule} |" in lines
        assert f"| `{key}` | {entry.source} |" in lines
    keys = [
        line.split("`")[1] for line in lines if re.match(r"\| `\w+` \| (novel|joint|known) ", line)
    ]
    assert keys == list(PROTOCOLS)
