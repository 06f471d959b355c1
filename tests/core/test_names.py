"""Names of the field alone: what earlier versions called otherwise is refused."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

from tests.support import ROOT

OLD_NAMES = {
    "Answers": "Outputs",
    "Feed": "BatchLoader",
    "Part": "Subset",
    "Share": "BatchShard",
    "StartingPoint": "ParentRun",
    "GroupedHead": "IncrementalHead",
    "KnownClasses": "RelativeMahalanobis",
    "ClassGaussians": "RelativeMahalanobis",
    "SharedGaussians": "TiedGaussians",
    "ClassPrototypes": "TiedMixtures",
    "ResidentImages": "InMemoryImages",
    "StreamedImages": "StreamingImages",
    "RecordedStep": "CudaGraphStep",
    "essence": "resumable_settings",
    "REMEDIES": "RECOVERY_SETTINGS",
    "agreed": "any_rank",
    "as_the_first": "broadcast_from_rank_zero",
    "strangeness": "novelty_score",
    "witnesses": "validity",
    "look_alike": "probe_classes",
    "precheck_run": "known_filter",
    "answer_part": "forward_subset",
    "row_config": "experiment_config",
    "images_gone": "allow_empty_known",
    "answers_of": "test_outputs",
    "stranger": "auroc",
    "answered": "assigned",
    "in_words": "format_bytes, format_duration or format_plugins",
    "some_of_each_class": "class_fraction_mask",
    "fit_for_folders": "safe_folder_names",
    "likely_shares": "estimated_class_shares",
    "on_a_plane": "project_2d",
    "bumps": "peak_heights",
    "done_here": "run_in_process",
    "Material": "DiscoveryInput",
    "Posing": "FakeCudaTensor",
}
BRITISH = re.compile(
    r"\w*(?:optimis|normalis|synchronis|regularis|initialis|generalis|recognis|minimis[ei]|maximis"
    r"|colour|labelled|labelling|neighbour|behaviour|\bcentres?\b|centred|\bgrey\b|licence)\w*",
    re.IGNORECASE,
)
ALLOWED = {"labelledby"}
"""An attribute of HTML."""
PRIVATE = re.compile(
    r"\b(?:anew|beside|gone|go(?:es)? on|lies?|stands?(?!-in)|strangers?|told|witness(?:es|ed)?)\b"
)
"""Words of earlier versions; the field says metric, value, stored, continue, next to, and so on."""
ATTRIBUTES = {"crkd/losses/term.py": {"beside"}}
"""Public attributes with such a name."""

FILES = [
    path
    for folder in ("crkd", "tests", "tools", "benchmarks", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != Path(__file__)
]
TEXTS = [
    *FILES,
    # The page of changes names what is gone.
    *(p for p in sorted((ROOT / "docs").rglob("*.md")) if p.name != "changes-since-0.1.md"),
    *sorted((ROOT / "configs").rglob("*.yaml")),
    *sorted((ROOT / "crkd").rglob("*.cu*")),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
]


def prose_of(path: Path) -> str:
    """Return the text of a page, or the comments and strings of Python code."""
    text = path.read_text()
    if path.suffix != ".py":
        return text
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    prose = (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1))
    return "\n".join(token.string for token in tokens if token.type in prose)


def old_names_in(text: str) -> set[str]:
    candidates = {name for name in OLD_NAMES if name in text}
    if not candidates:
        return set()
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return candidates & {token.string for token in tokens if token.type == tokenize.NAME}


def test_no_file_uses_an_old_name() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name} is called {OLD_NAMES[name]}"
        for path in FILES
        for name in old_names_in(path.read_text())
    }
    assert not found


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_spelling_is_american(path: Path) -> None:
    words = {match[0] for match in BRITISH.finditer(path.read_text())}
    assert not words - ALLOWED


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_words_are_those_of_the_field(path: Path) -> None:
    words = set(PRIVATE.findall(prose_of(path)))
    assert not words - ATTRIBUTES.get(str(path.relative_to(ROOT)), set())
