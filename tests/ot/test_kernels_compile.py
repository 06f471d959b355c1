"""The kernels compile by NVRTC without a GPU, for every architecture they claim."""

from __future__ import annotations

from pathlib import Path

import pytest

from crkd.gpu_checks import sinkhorn_launches
from crkd.ot.cuda import compiler, plans

pytestmark = pytest.mark.usefixtures("nvrtc")

ONE_BLOCK = [80, 86, 89, 90, 100, 120]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRKD_CACHE", str(tmp_path))


def is_machine_code(code: bytes) -> bool:
    return code.startswith(b"\x7fELF") and b"sinkhorn" in code


@pytest.mark.parametrize("architecture", ONE_BLOCK)
def test_one_block_and_streaming_kernels(architecture: int) -> None:
    """All launches of the streaming kernel for the first one, which has the fewest instructions.

    No launch has code of its own for an architecture, so the others take turns.
    """
    plan = plans.resident_layout(64, 50, cluster=1, warps=8)
    assert plan is not None
    device = plans.Device(architecture, 101376, 1, 84)
    types = {"WEIGHTED": 1, "SCORE_TYPE": 1, "OUT_TYPE": 2}
    position = ONE_BLOCK.index(architecture)
    for name, constants in [
        ("resident", plan.constants),
        ("persistent", plans.persistent_layout(8192, 2000, device, blocks=64, cluster=1).constants),
        *[
            ("streaming", plans.Streaming(2, 2, 4, 2).constants(step))
            for step in range(4)
            if position in (0, step + 1) or position == step + 5
        ],
    ]:
        assert is_machine_code(compiler.cubin(name, constants | types, f"sm_{architecture}"))


@pytest.mark.parametrize(("name", "split"), [("resident", 0), ("resident", 1), ("persistent", 0)])
def test_cluster_kernels(name: str, split: int) -> None:
    """On the architecture after 90, for which ``test_machine_code.py`` compiles every layout."""
    device = plans.Device(100, 232448, 16, 132)
    types = {"WEIGHTED": 0, "SCORE_TYPE": 0, "OUT_TYPE": 0}
    if name == "resident":
        plan = plans.resident(256, 50, device)
        assert plan is not None
        assert plan.cluster > 1
        constants = plan._replace(split=bool(split)).constants
    else:
        large = plans.persistent(8192, 2000, device)
        assert large is not None
        assert large.cluster == 8
        constants = large.constants
    assert is_machine_code(compiler.cubin(name, constants | types, "sm_100"))


def test_the_cache_is_used_and_can_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = plans.Streaming(1, 1, 1, 1).constants(0)
    constants |= {"WEIGHTED": 0, "SCORE_TYPE": 0, "OUT_TYPE": 0}
    code = compiler.cubin("streaming", constants, "sm_90")
    (kept,) = (tmp_path / "kernels").iterdir()
    compiler._keep(kept, b"from the disk")
    assert compiler.cubin("streaming", constants, "sm_90") == b"from the disk"
    (tmp_path / "file").touch()
    monkeypatch.setenv("CRKD_CACHE", str(tmp_path / "file"))
    assert compiler.cubin("streaming", constants, "sm_90") == code


@pytest.mark.parametrize("damage", ["cut short", "one bit", "emptied"])
def test_a_damaged_entry_is_compiled_again(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []

    def compile_stub(text: str, architecture: str) -> bytes:
        compiled.append(architecture)
        return b"machine code"

    monkeypatch.setattr(compiler, "compiled", compile_stub)
    constants = plans.Streaming(1, 1, 1, 1).constants(0)
    compiler.cubin("streaming", constants, "sm_90")
    (entry,) = (tmp_path / "kernels").iterdir()
    whole = entry.read_bytes()
    damaged = {
        "cut short": whole[: len(whole) // 2],
        "one bit": bytes([whole[0] ^ 1]) + whole[1:],
        "emptied": b"",
    }
    entry.write_bytes(damaged[damage])
    for _ in range(2):
        assert compiler.cubin("streaming", constants, "sm_90") == b"machine code"
    assert compiled == ["sm_90"] * 2
    assert entry.read_bytes() == whole


def test_the_kernel_that_a_sanitizer_must_find_compiles() -> None:
    code = compiler.compiled(sinkhorn_launches._INVALID_SOURCE, "sm_90")
    assert b"sinkhorn_invalid_write" in code
