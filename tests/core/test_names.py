"""Names of the field alone: what earlier versions called otherwise is refused."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

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
STEMS = (
    *("optimis", "normalis", "synchronis", "regularis", "initialis", "generalis", "recognis"),
    *("minimise", "minimisi", "maximis", "colour", "labelled", "labelling", "neighbour"),
    *("behaviour", "centred", "licence"),
)
BRITISH = re.compile(rf"{'|'.join(STEMS)}|\bcentres?\b|\bgrey\b", re.IGNORECASE)
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
    ROOT / "CHANGELOG.md",
]


def british_words_in(text: str) -> list[tuple[int, str]]:
    """Return line and word of every British spelling."""
    lower = text.lower()
    # A regular expression takes far longer to find nothing.
    if not any(part in lower for part in (*STEMS, "centre", "grey")):
        return []
    return [
        (number, word)
        for number, line in enumerate(text.splitlines(), 1)
        if BRITISH.search(line)
        for word in re.findall(r"\w+", line)
        if BRITISH.search(word) and word not in ALLOWED
    ]


def private_words_in(text: str, *, code: bool) -> list[tuple[int, str]]:
    """Return line and word of every private word of a page, or of comments and strings of code."""
    if not PRIVATE.search(text):
        return []
    if not code:
        return _private_words(text, 1)
    prose = (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1))
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [
        found
        for token in tokens
        if token.type in prose
        for found in _private_words(token.string, token.start[0])
    ]


def _private_words(text: str, first_line: int) -> list[tuple[int, str]]:
    return [
        (first_line + text.count("\n", 0, match.start()), match[0])
        for match in PRIVATE.finditer(text)
    ]


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


def test_the_spelling_is_american() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {word}"
        for path in TEXTS
        for line, word in british_words_in(path.read_text())
    ]
    assert not found


def test_the_words_are_those_of_the_field() -> None:
    found = [
        f"{name}:{line}: {word}"
        for path in TEXTS
        for line, word in private_words_in(path.read_text(), code=path.suffix == ".py")
        if word not in ATTRIBUTES.get(name := str(path.relative_to(ROOT)), set())
    ]
    assert not found


def test_a_word_is_found_with_its_line() -> None:
    text = 'a = "normal"\nunnormalised = 1  # it lies\nb = """Two\nlines, centre and anew."""\n'
    assert british_words_in(text) == [(2, "unnormalised"), (4, "centre")]
    assert british_words_in('<p aria-labelledby="a">') == []
    assert private_words_in(text, code=True) == [(2, "lies"), (4, "anew")]
    assert private_words_in("beside = 1  # here", code=True) == []
    assert private_words_in("beside\n\na stand-in stands", code=False) == [
        (1, "beside"),
        (3, "stands"),
    ]
