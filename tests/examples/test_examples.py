"""Every example runs from the command line and prints scores of real digits."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.support import ROOT
from tests.support.scripts import run_script

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
QUICK = {
    "plain_discovery": ("--epochs", "3"),
    "losses_in_your_own_loop": ("--epochs", "40"),
    "sinkhorn_pseudo_labels": (),
}


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Return what runs an example and returns its output."""

    def run(name: str) -> str:
        assert run_script(ROOT / "examples" / f"{name}.py", *QUICK[name]) == 0
        return capsys.readouterr().out

    return run


def percentages(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"([\d.]+)%", text)]


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES} == set(QUICK)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_is_short(path) -> None:
    assert len(path.read_text().splitlines()) < 120


def test_plain_discovery_finds_classes(printed: Callable[[str], str]) -> None:
    clusters, found = percentages(printed("plain_discovery"))
    assert clusters > 80
    assert found > 50, "chance is 20 %"


def test_a_teacher_helps_a_student_with_few_labels(printed: Callable[[str], str]) -> None:
    teacher, alone, taught = percentages(printed("losses_in_your_own_loop"))
    assert teacher > taught > alone


def test_class_sizes_help_pseudo_labels(printed: Callable[[str], str]) -> None:
    text = printed("sinkhorn_pseudo_labels")
    nearest, equal, given = percentages(text)
    assert given > nearest > equal
    rows = [[int(n) for n in line.split()[-10:]] for line in text.splitlines()[1:]]
    wanted = rows[-1]
    missed = [sum(abs(n - w) for n, w in zip(row, wanted, strict=True)) for row in rows[:3]]
    assert missed[2] < missed[0] / 4
