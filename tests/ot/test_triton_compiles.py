"""The Triton kernels compile without a GPU, and one call prepares all calls of its kind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="triton is not installed")

import triton

from crkd.commands.check_gpu import OURS
from tests.support import ROOT

TARGETS = ("sm_80", "sm_90", "gfx942")
KERNELS = {"class_sums", "class_potentials", "iteration", "sample_step"}


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the machine code, and of what the calls loaded and launched."""
    folder: Path = tmp_path_factory.mktemp("triton")
    environment = {name: value for name, value in os.environ.items() if "TRITON" not in name}
    environment["TRITON_CACHE_DIR"] = str(folder / "cache")
    command = [sys.executable, "-m", "tests.support.triton_compiled", str(folder)]
    subprocess.run(command, check=True, cwd=ROOT, env=environment)
    return folder


@pytest.fixture(scope="session")
def calls(compiled: Path) -> dict[str, list[dict[str, Any]]]:
    made: dict[str, list[dict[str, Any]]] = json.loads((compiled / "calls.json").read_text())
    return made


@pytest.mark.parametrize("target", TARGETS)
def test_every_kernel_compiles(target: str, compiled: Path) -> None:
    """Under names by which a sanitizer finds them."""
    names = {file.name.split("-")[1] for file in compiled.glob(f"{target}-*")}
    assert names == {OURS + kernel for kernel in KERNELS}


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_nothing_is_spilled_on_nvidia(target: str, compiled: Path) -> None:
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    for file in compiled.glob(f"{target}-*.cubin"):
        text = subprocess.run(
            [tool, "-res-usage", file], check=True, capture_output=True, text=True
        ).stdout
        usage = {name: int(value) for name, value in re.findall(r"([A-Z]+):(\d+)", text)}
        assert usage["LOCAL"] == usage["STACK"] == 0, f"{file.name}: {usage}"
        # Programs of 16 warps, the largest, must get their registers.
        assert usage["REG"] <= 128, f"{file.name}: {usage}"


def test_nothing_is_spilled_on_amd(compiled: Path) -> None:
    for file in compiled.glob("gfx942-*.amdgcn"):
        text = file.read_text()
        assert re.findall(r"\.vgpr_spill_count: *(\d+)", text) == ["0"], file.name
        assert re.findall(r"\.private_segment_fixed_size: *(\d+)", text) == ["0"], file.name


def test_launches_of_a_solve(calls: dict[str, list[dict[str, Any]]]) -> None:
    """The last launches are those of the call, the others prepared it."""
    middle = ["iteration", "class_potentials"] * 2
    narrow = ["class_sums", "class_potentials", *middle, "sample_step"]
    wide = [*["class_sums", "class_potentials", "sample_step"] * 3]
    for call in calls["sm_90"]:
        names = [launch["kernel"].removeprefix(OURS) for launch in call["launched"]]
        wanted = wide if call["shape"][2] == 5000 else narrow
        assert names[-len(wanted) :] == wanted


def test_another_call_of_a_kind_needs_no_compiler(
    calls: dict[str, list[dict[str, Any]]],
) -> None:
    """Whatever its sizes, addresses and strides are."""
    first, more, one = calls["sm_90"][:3]
    assert first["loaded"] == 5
    assert len(first["launched"]) == 5 + 7
    for call in (more, one):
        assert call["loaded"] == 0
        assert len(call["launched"]) == 7


def test_programs_of_each_launch(calls: dict[str, list[dict[str, Any]]]) -> None:
    grids = [launch["grid"] for launch in calls["sm_90"][3]["launched"]][-9:]
    # Three samples of 5000 classes: three chunks, five tiles a row, tiles of 256 for their sums.
    assert grids == [[3, 5, 1], [1, 20, 1], [3, 1, 1]] * 3
