"""The benchmark of memory: its files, its rows, and what it refuses."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import control_group, memory
from benchmarks.made_up_vectors import png
from benchmarks.matrix_backbone import write_matrix
from benchmarks.memory_settings import DEFAULTS, MemorySettings
from crkd.core.errors import InputError
from crkd.data.encoded.listing import find_encoded
from crkd.data.vectors.embedding_file import EmbeddingFile
from crkd.data.vectors.table import read_features
from crkd.models.pretrained.open import open_pretrained


def test_the_files_are_those_of_embedded_images(tmp_path: Path) -> None:
    words = memory.commands(tmp_path, 301)
    assert set(words) == set(DEFAULTS.verbs)
    known, novel = (read_features(tmp_path / f"{name}.parquet") for name in ("known", "novel"))
    assert (len(known), len(novel)) == (150, 151)
    assert known.features.shape[1] == memory.WIDTH
    assert len(set(known.labels or ())) == memory.CLASSES
    assert set(novel.labels or ()) == {""}
    for name in ("known", "novel"):
        listing = find_encoded([tmp_path / f"{name}.tar"])
        with EmbeddingFile(tmp_path / f"{name}.parquet") as file:
            ids = [file.row(n).image_id for n in range(len(file))]
            digests = file.digests()
        assert [listing.image_id(n) for n in range(len(listing))] == ids
        found = [hashlib.sha256(listing.read(n)).digest() for n in range(len(listing))]
        assert [row.tobytes() for row in digests] == found
        assert len(set(found)) == len(found)
        with tarfile.open(tmp_path / f"{name}.tar") as tar:
            assert len(tar.getnames()) == len(ids)


def test_a_png_file_holds_its_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(png(pixels))) as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), pixels)


def test_samples_are_around_their_class_means(tmp_path: Path) -> None:
    memory.commands(tmp_path, 2000)
    rows = np.asarray(read_features(tmp_path / "novel.parquet").features)
    first, second = rows[0::10].mean(axis=0), rows[1::10].mean(axis=0)
    again = rows[0:500:10].mean(axis=0)
    assert np.linalg.norm(first - second) > 1.5 * np.linalg.norm(first - again)


def test_a_row_for_each_verb_and_size_and_then_the_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRKD_ROWS", "400,200")
    monkeypatch.setenv("CRKD_VERBS", "review,predict")
    called: list[tuple[str, int]] = []

    def peak(verb: str, words: list[str], group: Path | None) -> tuple[int, float]:
        assert group is None
        count = sum(len(read_features(word)) for word in words if word.endswith("l.parquet"))
        called.append((verb, count))
        return 1 << 20 if len(called) <= 3 else 3 << 20, 1.25

    monkeypatch.setattr(memory, "measured", peak)
    rows: list[dict[str, Any]] = list(memory.rows())
    # A discovery makes the run that the others read.
    assert [verb for verb, _ in called] == ["discover", "predict", "review"] * 2
    assert [(row["unit"], row["value"]) for row in rows] == [
        ("MiB", 1.0),
        ("MiB", 1.0),
        ("MiB", 3.0),
        ("MiB", 3.0),
        ("bytes a row", 10_485.8),
        ("bytes a row", 10_485.8),
    ]
    assert [row["rows"] for row in rows[:4]] == [200, 200, 400, 400]
    assert all(row["limit"] is None for row in rows[:4])
    assert rows[0]["command"].startswith("CRKD_ROWS=200,400 ")


def test_the_peak_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import sys; held = bytearray(int(sys.argv[2])); print('peak', len(held) // 1024)"
    monkeypatch.setattr(memory, "PROGRAM", program)
    assert memory.measured("predict", [str(1 << 20)])[0] == 1 << 20
    monkeypatch.setattr(memory, "PROGRAM", "import sys; sys.exit('no space')")
    with pytest.raises(RuntimeError, match="review ended with exit code 1: no space"):
        memory.measured("review", [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CRKD_ROWS", "many"),
        ("CRKD_ROWS", "10"),
        ("CRKD_ROWS", ""),
        ("CRKD_VERBS", "train"),
        ("CRKD_BACKBONE", "vit"),
        ("CRKD_LIMIT", "much"),
        ("CRKD_LIMIT", "0"),
        ("CRKD_LIMIT", "nan"),
    ],
)
def test_refusals(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=name):
        next(memory.rows())


def test_a_kept_folder_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRKD_ROWS", "200")
    monkeypatch.setenv("CRKD_VERBS", "predict")
    monkeypatch.setenv("CRKD_FOLDER", str(tmp_path))
    finished = False
    called: list[str] = []

    def peak(verb: str, *_: object) -> tuple[int, float]:
        called.append(verb)
        return 1 << 20, 1.0

    monkeypatch.setattr(memory, "measured", peak)
    monkeypatch.setattr(memory, "is_finished", lambda run: finished)
    list(memory.rows())
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "200").iterdir()}
    assert {file.name for file in before} >= {"known.tar", "novel.parquet"}
    finished = True
    list(memory.rows())
    assert called == ["discover", "predict", "predict"]
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "200").iterdir()} == before


def test_settings_are_in_the_command_and_in_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MemorySettings.read().command == "CRKD_ROWS=4000,8000,16000 crkd bench memory"
    assert [MemorySettings.read().label(verb) for verb in ("embed", "discover")] == [
        "embed",
        "discover",
    ]
    for name, value in (("BACKBONE", "matrix"), ("METHOD", "kmeans"), ("LIMIT", "4")):
        monkeypatch.setenv(f"CRKD_{name}", value)
    found = MemorySettings.read()
    assert found.command.endswith(
        "CRKD_METHOD=kmeans CRKD_BACKBONE=matrix CRKD_LIMIT=4 crkd bench memory"
    )
    assert [found.label(verb) for verb in ("embed", "discover", "review")] == [
        "embed with a matrix as backbone",
        "discover by kmeans",
        "review",
    ]


def test_the_matrix_is_a_backbone(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    wanted = dataclasses.replace(DEFAULTS, backbone="matrix", method="kmeans")
    words = memory.commands(tmp_path, 200, wanted)
    file = Path(words["embed"][words["embed"].index("--backbone") + 1])
    assert words["discover"][-2:] == ["--method", "kmeans"]
    backbone = open_pretrained(str(file), image_size=32)
    assert backbone.num_features == memory.WIDTH
    first = file.read_bytes()
    assert write_matrix(tmp_path / "again.onnx", memory.WIDTH).read_bytes() == first


def test_a_group_limits_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with control_group.control_group(None) as none:
        assert none is None
    monkeypatch.setattr(control_group, "GROUPS", tmp_path / "none")
    with pytest.raises(InputError, match="CRKD_LIMIT"), control_group.control_group(1.0):
        pass
    monkeypatch.undo()
    try:
        with control_group.control_group(0.05) as file:
            program = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); "
            words = [sys.executable, "-c", program + "bytearray(1 << 30)", str(file)]
            assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    except InputError as error:
        pytest.skip(str(error))
    assert file is not None
    assert not file.parent.exists()
