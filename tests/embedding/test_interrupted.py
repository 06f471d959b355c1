"""However a call of embed ends or is shared, the file is the same in the end, byte by byte."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.embed_runs import embedded
from tests.support.forked import in_fork

IMAGES = 60


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embed")


@pytest.fixture(scope="module")
def found(place: Path) -> dict[str, Any]:
    random = np.random.default_rng(0)
    for number in range(IMAGES):
        file = place / "photos" / f"class {number % 3}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (24, 24, 3), np.uint8)).save(file)
    (place / "photos" / "class 1" / "broken.png").write_bytes(b"no image")
    result: dict[str, Any] = in_fork(embedded, place / "photos", place)
    return result


@pytest.mark.parametrize("name", ["part", "end", "signal", "two"])
def test_the_file_is_that_of_one_undisturbed_process(
    found: dict[str, Any], place: Path, name: str
) -> None:
    assert found["straight"]["then"] == {"embedded": IMAGES, "reused": 0, "rows": IMAGES}
    straight, other = place / "straight.parquet", place / f"{name}.parquet"
    assert other.read_bytes() == straight.read_bytes()
    assert not list(place.glob("*.parts"))
    assert (place / f"{name}.skipped.csv").read_text() == (
        place / "straight.skipped.csv"
    ).read_text()


def test_vectors_of_whole_parts_survive_a_kill_inside_a_write(found: dict[str, Any]) -> None:
    entry = found["part"]
    assert entry["status"] == signal.SIGKILL
    assert not entry["out"]
    assert entry["parts"] == 2
    assert 0 < entry["then"]["reused"] < IMAGES
    assert entry["then"]["reused"] + entry["then"]["embedded"] == IMAGES


def test_no_image_is_embedded_again_after_a_kill_before_the_last_rename(
    found: dict[str, Any],
) -> None:
    assert found["end"]["status"] == signal.SIGKILL
    assert not found["end"]["out"]
    assert found["end"]["then"] == {"embedded": 0, "reused": IMAGES, "rows": IMAGES}


def test_a_signal_keeps_all_that_was_computed(found: dict[str, Any]) -> None:
    entry = found["signal"]
    assert "give the same command to continue" in entry["said"]
    assert entry["then"]["reused"] >= 16
    assert entry["then"]["reused"] + entry["then"]["embedded"] == IMAGES


def test_two_processes_share_the_work(found: dict[str, Any]) -> None:
    assert found["two"]["then"] == {"embedded": IMAGES, "reused": 0, "rows": IMAGES}
