"""Peak memory of the verbs that read feature vectors, against the number of rows.

Every verb runs in a process of its own, whose largest resident memory the system counts. Vectors of
made-up classes are in files like those of ``crkd embed``, next to tar files of the images that they
stand for: half of the rows are of known classes. ``CRKD_ROWS`` gives other numbers of rows, as in
``CRKD_ROWS=20000,60000,180000``, and ``CRKD_VERBS`` fewer verbs. The bytes a row are the slope
between the least and the largest number.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from benchmarks.rows import row
from crkd.core.errors import InputError
from crkd.data.vectors.embedding_file import (
    ROW_GROUP,
    EmbeddingInfo,
    RootEntry,
    writing_embeddings,
)

ROWS: Final = (4_000, 8_000, 16_000)
WIDTH: Final = 1280
CLASSES: Final = 10
"""Known classes, and as many novel ones."""
SPREAD: Final = 0.1
"""Standard deviation of the class means; that of the rows of a class is 1."""
VERBS: Final = ("embed", "discover", "predict", "review")
ROOT: Final = Path(__file__).resolve().parents[1]
PROGRAM: Final = """
import sys
from crkd.commands.main import run_verb
code = run_verb(sys.argv[1], sys.argv[2:])
lines = open("/proc/self/status").read().splitlines()
print("peak", next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
sys.exit(code)
"""
"""Runs a verb and prints the largest resident memory of its process in KiB."""


def rows() -> Iterator[dict[str, Any]]:
    """Yield the peak of every verb at every number of rows, and then its bytes a row.

    Raises:
        InputError: a value of the environment is unusable.
    """
    sizes, verbs = wanted_sizes(), wanted_verbs()
    peaks: dict[str, list[int]] = {verb: [] for verb in verbs}
    for size in sizes:
        with tempfile.TemporaryDirectory() as place:
            for verb, words in commands(Path(place), size).items():
                if verb in verbs or verb == "discover":
                    peak, seconds = measured(verb, words)
                if verb in verbs:
                    peaks[verb].append(peak)
                    name = f"{verb}, {size:,} rows of {WIDTH} float32, peak of the process"
                    yield {
                        **row("memory", "MiB", name, peak / 2**20),
                        "rows": size,
                        "seconds": round(seconds, 1),
                        "command": f"CRKD_ROWS={','.join(map(str, sizes))} crkd bench memory",
                    }
    for verb in verbs if len(sizes) > 1 else ():
        name = f"{verb}, growth from {sizes[0]:,} to {sizes[-1]:,} rows"
        yield row("memory", "bytes a row", name, slope(sizes, peaks[verb]))


def wanted_sizes() -> tuple[int, ...]:
    """Return the numbers of rows, ascending.

    Raises:
        InputError: one is no whole number, or too small for the classes.
    """
    given = os.environ.get("CRKD_ROWS", ",".join(map(str, ROWS)))
    least = 20 * CLASSES
    try:
        sizes = sorted({int(part) for part in given.split(",")})
    except ValueError:
        sizes = []
    if not sizes or sizes[0] < least:
        raise InputError(
            f"CRKD_ROWS is {given!r}; give whole numbers from {least}, separated by commas"
        )
    return tuple(sizes)


def wanted_verbs() -> tuple[str, ...]:
    """Return the verbs to measure.

    Raises:
        InputError: one is unknown.
    """
    given = os.environ.get("CRKD_VERBS", ",".join(VERBS)).split(",")
    if unknown := [verb for verb in given if verb not in VERBS]:
        raise InputError(f"CRKD_VERBS names {unknown[0]!r}; choose from {', '.join(VERBS)}")
    return tuple(verb for verb in VERBS if verb in given)


def slope(sizes: Sequence[int], peaks: Sequence[int]) -> float:
    """Return the growth from the least to the largest size in bytes a row.

    >>> slope([1000, 2000, 3000], [500_000, 700_000, 900_000])
    200.0
    """
    return (peaks[-1] - peaks[0]) / (sizes[-1] - sizes[0])


def commands(place: Path, size: int) -> dict[str, list[str]]:
    """Write the files of so many rows, and return the arguments of each verb.

    Args:
        place: an empty folder.
        size: rows and images; the first half is of known classes.
    """
    files = {name: str(place / f"{name}.parquet") for name in ("known", "novel")}
    half = size // 2
    for name, count, first in (("known", half, 0), ("novel", size - half, CLASSES)):
        write(place, name, count, first)
    run = str(place / "run")
    return {
        "embed": [
            *(str(place / f"{name}.tar") for name in files),
            *("--out", str(place / "embedded.parquet"), "--image-size", "32"),
        ],
        "discover": [
            *("--features", *files.values(), "--num-novel", str(CLASSES), "--out", run),
            *("--seed", "0", "--device", "cpu"),
        ],
        "predict": [run, *files.values(), "--out", str(place / "rows.parquet"), "--device", "cpu"],
        "review": [run, "--out", str(place / "page.html"), "--device", "cpu"],
    }


def write(place: Path, name: str, count: int, first: int) -> None:
    """Write a tar file of images, and a file of vectors as if they had been embedded.

    Args:
        place: the folder.
        name: of both files; "known" rows have a label.
        count: of rows.
        first: number of the first of ``CLASSES`` classes.
    """
    draw = np.random.default_rng([count, first])
    centers = np.random.default_rng(0).normal(0, SPREAD, (2 * CLASSES, WIDTH)).astype(np.float32)
    archive = place / f"{name}.tar"
    info = EmbeddingInfo(
        crkd="0",
        backbone="made up",
        weights_sha256="0" * 64,
        num_features=WIDTH,
        preprocessing={"image_size": 32},
        form={"runtime": "torch"},
        roots=(RootEntry(archive.name, str(archive), count),),
    )
    with (
        tarfile.open(archive, "w") as tar,
        writing_embeddings(place / f"{name}.parquet", info) as writer,
    ):
        for start in range(0, count, ROW_GROUP):
            numbers = range(start, min(start + ROW_GROUP, count))
            classes = first + np.array(numbers) % CLASSES
            paths = [
                f"c{label:02d}/{number:07d}.png"
                for label, number in zip(classes, numbers, strict=True)
            ]
            digests = [_added(tar, path, n) for path, n in zip(paths, numbers, strict=True)]
            vectors = draw.standard_normal((len(paths), WIDTH), dtype=np.float32)
            vectors += centers[classes]
            labels = [path[:3] if name == "known" else None for path in paths]
            ids = [f"{archive.name}/{path}" for path in paths]
            writer.write(
                ids, labels, np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32), vectors
            )


def measured(verb: str, words: Sequence[str]) -> tuple[int, float]:
    """Return the peak of a verb's process in bytes, and its seconds.

    Raises:
        RuntimeError: the verb failed; the message is its last line.
    """
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, verb, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["nothing was told"]
        raise RuntimeError(f"{verb} ended with exit code {done.returncode}: {lines[-1]}")
    return 1024 * int(done.stdout.split()[-1]), time.monotonic() - began


def _added(tar: tarfile.TarFile, path: str, number: int) -> bytes:
    """Add an image of its own content to a tar file; return the digest of the file in it."""
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    entry = tarfile.TarInfo(path)
    entry.size = len(content.getvalue())
    tar.addfile(entry, io.BytesIO(content.getvalue()))
    return hashlib.sha256(content.getvalue()).digest()
