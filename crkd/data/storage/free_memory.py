"""Free memory of a device, and memory of this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    # Readers of small tables ask for the memory too, and PyTorch takes seconds to import.
    import torch

GROUPS: Final = Path("/sys/fs/cgroup")
"""Folder of the control groups."""
OWN: Final = Path("/proc/self/cgroup")
"""The groups of this process."""

_PAGES: Final = ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES")

STATM: Final = Path("/proc/self/statm")
"""Pages of this process: all, those in memory, and of these the pages of files."""


class _Version(NamedTuple):
    """Names of one version of control groups: its folder, limit, use, and files held in memory."""

    folder: str
    limit: str
    used: str
    files: tuple[str, str]


_VERSIONS: Final = {
    "": _Version("", "memory.max", "memory.current", ("active_file", "inactive_file")),
    "memory": _Version(
        "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ("total_active_file", "total_inactive_file"),
    ),
}
"""By the controller that a line of :data:`OWN` names: version 2 names none."""


def free_bytes(device: torch.device) -> int:
    """Return the free memory of ``device`` in bytes: of the GPU, or of the host."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    return free_host_bytes()


def free_host_bytes() -> int:
    """Return the free memory of the host in bytes.

    It is the smallest of several values: the available memory that the system reports, and the
    memory left below the limit of each control group (of a container or a job) in which the process
    is. Files that the system holds in memory count as free: it drops them.
    """
    # macOS does not count the available pages; all of its memory is a bound.
    pages = next(name for name in _PAGES if name in os.sysconf_names)
    available = os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    left = (_left(folder, version) for folder, version in _own_groups())
    return max(min([available, *(value for value in left if value is not None)]), 0)


def held_bytes() -> int:
    """Return the memory that this process holds, without files, in bytes; 0 if unknown."""
    fields = " ".join(_lines(STATM)).split()
    if len(fields) < 3:
        return 0
    return max(int(fields[1]) - int(fields[2]), 0) * os.sysconf("SC_PAGE_SIZE")


def _own_groups() -> Iterator[tuple[Path, _Version]]:
    """Yield the folders of the groups of this process, up to the outermost one."""
    for version in _VERSIONS.values():
        # Within a container its own group is the outermost one.
        yield GROUPS / version.folder, version
    for line in _lines(OWN):
        _, controllers, path = line.split(":", 2)
        for name in {"": [""]}.get(controllers, controllers.split(",")):
            own = _VERSIONS.get(name)
            group = PurePosixPath(path.lstrip("/"))
            if own is not None and ".." not in group.parts:
                for part in (group, *group.parents)[:-1]:
                    yield GROUPS / own.folder / part, own


def _left(folder: Path, version: _Version) -> int | None:
    """Return the bytes below the limit of a group; None for one without a limit."""
    limit, used = _lines(folder / version.limit), _lines(folder / version.used)
    if not limit or not used or not limit[0].isdigit():
        return None
    counts = dict(line.split(" ", 1) for line in _lines(folder / "memory.stat") if " " in line)
    files = sum(int(counts.get(name, "0")) for name in version.files)
    return int(limit[0]) - max(int(used[0]) - files, 0)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
