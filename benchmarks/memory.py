"""Peak memory of the verbs that read feature vectors, against the number of rows.

Every verb runs in a process of its own, whose largest resident memory the system counts. Vectors of
made-up classes are in files like those of ``crkd embed``, next to tar files of the images that they
represent: half of the rows are of known classes. The bytes a row are the slope between the least
and the largest number of rows.

The environment changes what is measured:

- ``CRKD_ROWS=20000,60000,180000``: other numbers of rows.
- ``CRKD_VERBS=predict,review``: fewer verbs.
- ``CRKD_METHOD=kmeans``: a quick method of the discovery in place of the contest.
- ``CRKD_BACKBONE=matrix``: a quick backbone of embed in place of lite0, of the same vector length.
- ``CRKD_LIMIT=4``: each verb runs in a control group of so many GiB, which needs rights of root.
- ``CRKD_FOLDER=DIR``: files are kept there, and a later call reads them and the finished discovery.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.control_group import control_group
from benchmarks.made_up_vectors import CLASSES, WIDTH, write
from benchmarks.matrix_backbone import write_matrix
from benchmarks.memory_settings import DEFAULTS, MemorySettings
from benchmarks.rows import row
from crkd.runs.folder import RunFolder

ROOT: Final = Path(__file__).resolve().parents[1]
PROGRAM: Final = """
import os, sys
group = os.environ.get("CRKD_GROUP")
if group:
    open(group, "w").write(str(os.getpid()))
from crkd.commands.main import run_verb
code = run_verb(sys.argv[1], sys.argv[2:])
lines = open("/proc/self/status").read().splitlines()
print("peak", next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
sys.exit(code)
"""
"""Enters the control group, runs a verb and prints the largest resident memory of its process in
KiB."""
WRITTEN: Final = "written"
"""Empty file of a folder whose files are complete."""


def rows() -> Iterator[dict[str, Any]]:
    """Yield the peak of every verb at every number of rows, and then its bytes a row.

    Raises:
        InputError: a value of the environment is unusable.
    """
    wanted = MemorySettings.read()
    peaks: dict[str, list[int]] = {verb: [] for verb in wanted.verbs}
    for size in wanted.sizes:
        with kept(wanted.folder, size) as place:
            for verb, words in commands(place, size, wanted).items():
                if verb not in wanted.verbs and (verb != "discover" or is_finished(place / "run")):
                    continue
                with control_group(wanted.limit) as group:
                    peak, seconds = measured(verb, words, group)
                if verb in wanted.verbs:
                    peaks[verb].append(peak)
                    name = f"{wanted.label(verb)}, {size:,} rows of {WIDTH} float32"
                    yield {
                        **row("memory", "MiB", f"{name}, peak of the process", peak / 2**20),
                        "rows": size,
                        "seconds": round(seconds, 1),
                        "limit": wanted.limit,
                        "command": wanted.command,
                    }
    first, last = wanted.sizes[0], wanted.sizes[-1]
    for verb in wanted.verbs if last > first else ():
        name = f"{wanted.label(verb)}, growth from {first:,} to {last:,} rows"
        yield row("memory", "bytes a row", name, slope(wanted.sizes, peaks[verb]))


def is_finished(run: Path) -> bool:
    """Return whether a discovery is complete."""
    return (run / "run.json").is_file() and RunFolder.open(run).read_info().status == "complete"


@contextlib.contextmanager
def kept(folder: Path | None, size: int) -> Iterator[Path]:
    """Give the folder for the files of a size: one of ``folder``, or a temporary one."""
    if folder is None:
        with tempfile.TemporaryDirectory() as place:
            yield Path(place)
        return
    place = folder / str(size)
    place.mkdir(parents=True, exist_ok=True)
    yield place


def slope(sizes: Sequence[int], peaks: Sequence[int]) -> float:
    """Return the growth from the least to the largest size in bytes a row.

    >>> slope([1000, 2000, 3000], [500_000, 700_000, 900_000])
    200.0
    """
    return (peaks[-1] - peaks[0]) / (sizes[-1] - sizes[0])


def commands(place: Path, size: int, wanted: MemorySettings = DEFAULTS) -> dict[str, list[str]]:
    """Write the files of so many rows unless they are there; return the arguments of each verb.

    Args:
        place: a folder, empty or of an earlier call.
        size: rows and images; the first half is of known classes.
        wanted: backbone and method.
    """
    files = {name: str(place / f"{name}.parquet") for name in ("known", "novel")}
    half = size // 2
    if not (place / WRITTEN).is_file():
        for name, count, first in (("known", half, 0), ("novel", size - half, CLASSES)):
            write(place, name, count, first)
        (place / WRITTEN).touch()
    run, backbone = str(place / "run"), []
    if wanted.backbone == "matrix":
        backbone = ["--backbone", str(write_matrix(place / "matrix.onnx", WIDTH))]
    return {
        "embed": [
            *(str(place / f"{name}.tar") for name in files),
            *("--out", str(place / "embedded.parquet"), "--image-size", "32", *backbone),
        ],
        "discover": [
            *("--features", *files.values(), "--num-novel", str(CLASSES), "--out", run),
            *("--seed", "0", "--device", "cpu", "--method", wanted.method),
        ],
        "predict": [run, *files.values(), "--out", str(place / "rows.parquet"), "--device", "cpu"],
        "review": [run, "--out", str(place / "page.html"), "--device", "cpu"],
    }


def measured(verb: str, words: Sequence[str], group: Path | None = None) -> tuple[int, float]:
    """Return the peak of a verb's process in bytes, and its seconds.

    Args:
        verb: of crkd.
        words: its arguments.
        group: file of the control group that takes the number of the process; None for none.

    Raises:
        RuntimeError: the verb failed; the message is its last line.
    """
    if verb == "discover":
        # A finished run of an earlier call would be refused.
        shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, verb, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CRKD_GROUP": str(group or "")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise RuntimeError(f"{verb} ended with exit code {done.returncode}: {lines[-1]}")
    return 1024 * int(done.stdout.split()[-1]), time.monotonic() - began
