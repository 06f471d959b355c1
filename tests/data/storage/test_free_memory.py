"""Free memory under the limits of control groups."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest
import torch

from crkd.data.storage import free_memory
from crkd.data.storage.free_memory import free_bytes, held_bytes

CPU = torch.device("cpu")


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(free_memory, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(free_memory, "OWN", tmp_path / "own")
    return tmp_path


def enter(groups: Path, own: str, folder: str, files: dict[str, str]) -> None:
    (groups / "own").write_text(own)
    place = groups / "groups" / folder
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / name).write_text(text)


def v2(limit: str, used: int, files: int = 0) -> dict[str, str]:
    stat = f"anon 1\nactive_file {files}\ninactive_file 0\n"
    return {"memory.max": limit + "\n", "memory.current": f"{used}\n", "memory.stat": stat}


def v1(limit: int, used: int, files: int) -> dict[str, str]:
    return {
        "memory.limit_in_bytes": f"{limit}\n",
        "memory.usage_in_bytes": f"{used}\n",
        "memory.stat": f"cache 5\ntotal_inactive_file {files}\n",
    }


def test_without_groups_it_is_the_available_memory(groups: Path) -> None:
    assert 1 << 20 < free_bytes(CPU) < 1 << 50


def test_files_below_the_limit_of_a_container_count_as_free(groups: Path) -> None:
    enter(groups, "0::/\n", "", v2("1000", 900, files=700))
    assert free_bytes(CPU) == 800
    enter(groups, "0::/\n", "", v2("1000", 1200))
    assert free_bytes(CPU) == 0


def test_the_nearest_limit_of_nested_groups_counts(groups: Path) -> None:
    enter(groups, "0::/job/step\n", "job/step", v2("max", 100))
    before = free_bytes(CPU)
    assert before > 1 << 20
    enter(groups, "0::/job/step\n", "job", v2("5000", 100))
    assert free_bytes(CPU) == 4900
    enter(groups, "0::/job/step\n", "job/step", v2("700", 100))
    assert free_bytes(CPU) == 600
    enter(groups, "0::/job/step\n", "other", v2("1", 1))
    assert free_bytes(CPU) == 600, "a group of other processes does not count"


def test_the_limit_of_the_first_version_of_control_groups_counts(groups: Path) -> None:
    own = "9:name=systemd:/\n4:memory:/job\n0::/\n"
    enter(groups, own, "memory/job", v1(4000, 3000, files=2500))
    assert free_bytes(CPU) == 3500


def test_a_group_outside_of_what_is_visible_is_passed_over(groups: Path) -> None:
    enter(groups, "0::/../elsewhere\n", "", v2("max", 1))
    assert free_bytes(CPU) > 1 << 20


def test_held_memory_is_that_of_the_process_without_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = held_bytes()
    # A block of its own: the heap of a large process may have room for it already.
    block = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for page in range(0, len(block), mmap.PAGESIZE):
        block[page] = 1
    assert before > 1 << 20
    assert 60 << 20 < held_bytes() - before < 80 << 20
    block.close()
    monkeypatch.setattr(free_memory, "STATM", tmp_path / "statm")
    assert held_bytes() == 0
    (tmp_path / "statm").write_text("900 70 20 1 0 5 0\n")
    assert held_bytes() == 50 * os.sysconf("SC_PAGE_SIZE")


def test_a_system_that_does_not_count_free_pages_has_a_bound(
    groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS has neither the name nor the folder ``/proc``."""
    names = {name: n for name, n in os.sysconf_names.items() if name != "SC_AVPHYS_PAGES"}
    monkeypatch.setattr(os, "sysconf_names", names)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__)
    monkeypatch.setattr(free_memory, "_lines", lambda path: [])
    assert free_bytes(CPU) == 1000 * 4096
