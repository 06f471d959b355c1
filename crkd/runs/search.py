"""Find the stage-1 run that a discovery starts from, and name new runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from crkd.core.errors import InputError
from crkd.runs.folder import RunFolder, RunInfo

SHARED_PARTS = ("backbone", "known_head")
"""Settings of the block ``model`` that a run has in common with the stage 1 it starts from."""


def runs_below(*roots: Path) -> list[tuple[Path, RunInfo]]:
    """Return every readable run at most three folders below ``roots``, newest first."""
    found: dict[Path, RunInfo] = {}
    for root in roots:
        for pattern in ("run.json", "*/run.json", "*/*/run.json", "*/*/*/run.json"):
            for file in root.glob(pattern):
                folder = file.parent.resolve()
                try:
                    found.setdefault(folder, RunFolder(folder).read_info())
                except InputError:
                    # A damaged or foreign folder is not a candidate; its errors are reported
                    # elsewhere.
                    continue
    return sorted(found.items(), key=lambda item: item[1].finished or "", reverse=True)


def is_stage1(info: RunInfo, dataset: str, known: str) -> bool:
    """Return whether a run is a stage 1 of this data set and these known classes."""
    return info.kind == "supervised" and info.dataset == dataset and info.split["known"] == known


def find_stage1(
    roots: list[Path],
    *,
    dataset: str,
    known: str,
    seed: int,
    fits: Callable[[Path, RunInfo], bool] = lambda folder, info: True,
) -> tuple[Path, RunInfo] | None:
    """Return the newest finished stage-1 run, the same seed preferred.

    Args:
        roots: folders to search.
        dataset: name of the data set.
        known: digest of the known classes, see :func:`crkd.stages.run_data.split_entry`.
        seed: preferred seed.
        fits: whether a run has the network that the discovery needs.
    """
    candidates = [
        (folder, info)
        for folder, info in runs_below(*roots)
        if info.status == "complete" and is_stage1(info, dataset, known) and fits(folder, info)
    ]
    same_seed = [r for r in candidates if r[1].seed == seed]
    return next(iter(same_seed or candidates), None)


def free_folder(path: Path) -> Path:
    """Return ``path``, or ``path-2``, ``path-3``, ... if it is taken."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
