"""``bench``: each row is kept as soon as it is measured, whatever the next measurement does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from crkd.commands import bench
from crkd.commands.main import run_verb
from crkd.runs import atomic_files

PART = """
import os, time
from crkd.core.errors import InputError
from crkd.core.watched import Job

def row(name, value=1.0):
    made = {"benchmark": "people", "name": name, "value": value, "unit": "s"}
    return {**made, "baseline": None, "ratio": None, "process": os.getpid()}

def hang():
    open(os.environ["HANGS"], "w").close()
    time.sleep(3600)

def fail():
    raise ValueError("[/red] of\\ntwo lines")

def measurements(part, device, out, jobs):
    if out == "":
        raise InputError("no such folder; name another")
    last = lambda: [row("fourth"), row("fifth", None)]
    return [
        Job("first", lambda: [row("first")]),
        *([Job("second", hang)] if device == "cuda" else []),
        Job("third", fail),
        Job("last", last),
    ]
"""


@pytest.fixture
def _part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements of which the second hangs, on what calls itself a GPU, and the third raises."""
    (tmp_path / "fake_part.py").write_text(PART)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(bench, "SOURCE", "fake_part:measurements")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of the rows that were written, each time."""
    names: list[list[str]] = []
    honest = atomic_files.write_json

    def write(path: Path, rows: list[dict[str, Any]]) -> None:
        names.append([row["name"] for row in rows])
        honest(path, rows)

    monkeypatch.setattr(atomic_files, "write_json", write)
    return names


@pytest.mark.usefixtures("_part", "hangs")
def test_what_hangs_or_raises_is_a_row_and_the_rest_is_measured(
    tmp_path: Path,
    written: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("crkd.core.device.pick_device", lambda name: torch.device("cuda", 0))
    monkeypatch.setattr("crkd.core.device.device_name", lambda device: "a card")
    file = tmp_path / "rows.json"
    assert run_verb("bench", ["train", "--json", str(file)]) == 1
    rows = json.loads(file.read_text())
    names = ["first", "second", "third", "fourth", "fifth"]
    assert written == [names[:count] for count in range(1, 6)]
    assert [row["value"] for row in rows] == [1.0, None, None, 1.0, None]
    assert [row.get("reason") for row in rows] == [
        None,
        "no result within 180 s",
        "ValueError: [/red] of two lines",
        None,
        None,
    ]
    assert len({row["process"] for row in rows if "process" in row} | {os.getpid()}) == 3
    assert {"benchmark", "unit", "baseline", "ratio", "device", "versions", "commit", "recipe"} <= (
        rows[1].keys() & rows[3].keys()
    )
    assert rows[1]["benchmark"] == "train"
    shown = " ".join(capsys.readouterr().out.split())
    assert "a card" in shown
    assert "failed:" in shown
    assert "[/red]" in shown


@pytest.mark.usefixtures("_part")
def test_a_limit_that_is_given_holds_on_a_cpu_too(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    command = ["people", "--device", "cpu", "--json", str(file), "--row-seconds", "60"]
    assert run_verb("bench", command) == 1
    rows = json.loads(file.read_text())
    assert [row["name"] for row in rows] == ["first", "third", "fourth", "fifth"]
    assert rows[0]["process"] == rows[2]["process"] != os.getpid()


@pytest.mark.usefixtures("_part")
def test_what_a_person_gave_wrong_is_told_from_the_other_process(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["people", "--device", "cpu", "--json", "", "--row-seconds", "60"]
    assert run_verb("bench", command) == 2
    assert capsys.readouterr().err == "crkd bench: no such folder; name another\n"


def test_without_a_limit_an_error_loses_no_row_either(
    tmp_path: Path, written: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows() -> Any:
        yield {"name": "first", "value": 1.0, "unit": "s", "baseline": None, "ratio": None}
        raise MemoryError

    monkeypatch.setattr(bench._benchmark("kmeans"), "rows", rows)
    file = tmp_path / "rows.json"
    assert run_verb("bench", ["kmeans", "--device", "cpu", "--json", str(file)]) == 1
    first, failed = json.loads(file.read_text())
    assert first["value"] == 1.0
    assert (failed["name"], failed["reason"]) == ("kmeans", "MemoryError:")
    assert written == [["first"], ["first", "kmeans"]]


def test_an_interruption_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows() -> Any:
        yield {"name": "first", "value": 1.0, "unit": "s", "baseline": None, "ratio": None}
        raise KeyboardInterrupt

    monkeypatch.setattr(bench._benchmark("kmeans"), "rows", rows)
    file = tmp_path / "rows.json"
    assert run_verb("bench", ["kmeans", "--device", "cpu", "--json", str(file)]) == 130
    assert [row["name"] for row in json.loads(file.read_text())] == ["first"]


@pytest.mark.parametrize("part", bench.PARTS)
def test_each_part_takes_what_it_is_given(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = bench._benchmark(part)
    name = "measurements" if hasattr(module, "measurements") else "rows"
    given: dict[str, Any] = {}
    monkeypatch.setattr(module, name, lambda **taken: given.update(taken) or [])
    for job in bench.measurements(part, "cpu", "some.json", 2):
        assert list(job.work()) == []
    assert tuple(given) == bench.PARTS[part]
    known = {"device": "cpu", "out": Path("some.json"), "jobs": 2}
    assert given.items() <= known.items()


@pytest.mark.parametrize("seconds", ["0", "-1", "nan"])
def test_a_limit_is_above_0(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("bench", ["people", "--row-seconds", seconds]) == 2
    assert "give a number above 0" in capsys.readouterr().err
