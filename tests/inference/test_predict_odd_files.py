"""Unusual files in folders of images: docs/predict.md states the result for each."""

from __future__ import annotations

import csv
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crkd.inference.predict import Summary, predict
from crkd.inference.table import PredictedImage, read
from crkd.runs.folder import RunFolder
from tests.support.untrained_runs import noise, untrained_run

RGB = noise(7)
GRAY = RGB[..., 0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return untrained_run(tmp_path_factory.mktemp("runs") / "run")


def predicted(run: RunFolder, out: Path, *images: Path) -> tuple[list[PredictedImage], Summary]:
    summary = predict(run.path, images, out, device=torch.device("cpu"))
    return read(out), summary


def gray(path: Path) -> np.ndarray:
    Image.fromarray(GRAY).save(path)
    return np.repeat(GRAY[..., None], 3, axis=2)


def sixteen_bit(path: Path) -> np.ndarray:
    Image.fromarray(GRAY.astype(np.uint16) * 256 + 77).save(path)
    return np.repeat(GRAY[..., None], 3, axis=2)


def cmyk(path: Path) -> np.ndarray:
    image = Image.fromarray(np.dstack([RGB, np.zeros_like(GRAY)]), mode="CMYK")
    image.save(path.with_suffix(".tif"))
    return 255 - RGB


def alpha(path: Path) -> np.ndarray:
    opacity = np.where(GRAY > 100, 255, 0).astype(np.uint8)
    Image.fromarray(np.dstack([RGB, opacity])).save(path)
    return np.where(opacity[..., None] > 0, RGB, 255).astype(np.uint8)


def animated(path: Path) -> np.ndarray:
    frames = [Image.fromarray(frame) for frame in (RGB, noise(8))]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    return RGB


def one_pixel(path: Path) -> np.ndarray:
    Image.fromarray(RGB[:1, :1]).save(path)
    return np.tile(RGB[:1, :1], (20, 20, 1))


def thin(path: Path) -> np.ndarray:
    line = np.zeros((1, 60_001, 3), np.uint8)
    line[0, 29_990:30_011] = (10, 200, 90)  # the filter reaches a few pixels beyond the middle
    Image.fromarray(line).save(path)
    return np.tile(line[:, 30_000:30_001], (20, 20, 1))


def turned(path: Path) -> np.ndarray:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(path, exif=exif)
    return np.rot90(RGB, k=3)


@pytest.mark.parametrize(
    "write", [gray, sixteen_bit, cmyk, alpha, animated, one_pixel, thin, turned]
)
def test_unusual_images_are_predicted_as_their_rgb_image(
    run: RunFolder, tmp_path: Path, write: Callable[[Path], np.ndarray]
) -> None:
    (tmp_path / "odd").mkdir()
    meant = write(tmp_path / "odd" / "image.png")
    Image.fromarray(np.ascontiguousarray(meant)).save(tmp_path / "plain.png")
    rows, summary = predicted(run, tmp_path / "x.json", tmp_path / "odd", tmp_path / "plain.png")
    assert not summary.skipped
    odd, plain = rows
    assert odd.class_id == plain.class_id
    assert odd.top == pytest.approx(plain.top, abs=3e-6)


def bomb(path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def truncated(path: Path) -> None:
    Image.fromarray(noise(9, side=64)).save(path.with_suffix(".jpg"))
    whole = path.with_suffix(".jpg").read_bytes()
    path.with_suffix(".jpg").write_bytes(whole[: len(whole) // 2])


def without_range(path: Path) -> None:
    Image.fromarray(GRAY.astype(np.float32)).save(path.with_suffix(".tif"))


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (bomb, "pixels"),
        (truncated, "truncated"),
        (without_range, "no defined range"),
        (lambda path: path.write_bytes(b""), "not a JPEG"),
        (lambda path: path.write_text("<svg/>"), "not a JPEG"),
        (lambda path: os.mkfifo(path), "not a regular file"),
        (lambda path: path.symlink_to("missing.png"), "does not exist"),
    ],
    ids=["bomb", "truncated", "float", "empty", "text", "pipe", "broken link"],
)
def test_what_cannot_be_read_is_skipped_with_a_reason(
    run: RunFolder, tmp_path: Path, write: Callable[[Path], object], reason: str
) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    write(folder / "image.png")
    Image.fromarray(RGB).save(folder / "good.png")
    rows, summary = predicted(run, tmp_path / "x.csv", folder)
    assert [Path(row.path).name for row in rows] == ["good.png"]
    assert len(summary.skipped) == 1
    assert reason in next(iter(summary.skipped.values()))
    with (tmp_path / "x.skipped.csv").open(newline="") as file:
        assert [reason in row["reason"] for row in csv.DictReader(file)] == [True]


NAMES = (
    "with space.png",
    "Ünïcødé \U0001f408 猫.png",
    "quote'\"`.png",
    "comma,semicolon;.png",
    "<img src=x onerror=alert(1)>.png",
    "&amp;%20#?.png",
    "line\nbreak.png",
    "return\rtab\t.png",
    "=cmd|' -C calc'!A0.png",
    "+1.png",
    "-1.png",
    "@SUM(A1).png",
    "\ttab first.png",
    "\rreturn first.png",
    "'=guarded.png",
    "back\\slash.png",
    "$(touch x).png",
    f"{'long' * 60}.png",
)


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_odd_names_come_through_every_format(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        Image.fromarray(RGB).save(tmp_path / name)
    rows, _ = predicted(run, tmp_path / "out" / f"x{suffix}", *map(Path, NAMES))
    assert [row.path for row in rows] == list(NAMES)
    if suffix == ".csv":
        with (tmp_path / "out" / "x.csv").open(newline="", encoding="utf-8") as file:
            cells = [cell for line in csv.reader(file) for cell in line]
        assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r\n")]


def test_a_name_that_is_no_unicode_is_written_with_escapes(run: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    name = os.path.join(os.fsencode(folder), b"caf\xe9.png")
    try:
        with open(name, "wb") as file:
            Image.fromarray(RGB).save(file, "PNG")
    except OSError:
        pytest.skip("this file system holds Unicode names alone")
    (folder / "bad.png").write_text("")
    for suffix in (".csv", ".json", ".parquet"):
        rows, summary = predicted(run, tmp_path / f"x{suffix}", folder)
        assert [Path(row.path).name for row in rows] == ["caf\\xe9.png"]
        assert len(summary.skipped) == 1


def test_hidden_and_foreign_files_of_a_folder_are_no_images(run: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    (folder / ".thumbnails").mkdir(parents=True)
    for place in (folder / "a.png", folder / ".hidden.png", folder / ".thumbnails" / "b.png"):
        Image.fromarray(RGB).save(place)
    (folder / "notes.txt").write_text("hello")
    (folder / "loop").symlink_to(folder)
    rows, summary = predicted(run, tmp_path / "x.csv", folder)
    assert [Path(row.path).name for row in rows] == ["a.png"]
    assert not summary.skipped
