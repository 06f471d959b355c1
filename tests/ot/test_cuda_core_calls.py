"""Every call of ``cuda.core`` fits the version that is installed.

Without a GPU the calls cannot go through: their arguments are compared with the real signatures.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from crkd.ot.cuda import compiler, launches, plans

pytest.importorskip("cuda.core", reason="crkd[cuda] is not installed")
driver = pytest.importorskip("cuda.bindings.driver", reason="crkd[cuda] is not installed")

real = compiler.core()
real_occupancy = importlib.import_module(real.Kernel.__module__).KernelOccupancy
RESIDENT = plans.resident(512, 1000, plans.Device(90, 232448, 16, 132))
KIND = launches.Kind(0, 512, 1000, torch.float32, False, False, False)


def taking_what(real: Callable[..., Any], result: object = None, *, bound: bool = False) -> Any:
    """Return a function that takes what ``real`` takes, after self if ``bound``."""
    signature = inspect.signature(real)

    def call(*given: object, **named: object) -> object:
        signature.bind(*((None,) if bound else ()), *given, **named)
        return result

    return call


def launch_config(**layout: Any) -> Any:
    """Return a real configuration, or its parts where asking the driver fails.

    Some versions hide the signature. All of them refuse an unknown word before anything else.
    """
    try:
        return real.LaunchConfig(**layout)
    except TypeError:
        raise
    except Exception:  # noqa: BLE001
        # There is no driver here; how that is reported varies by version.
        return layout


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Devices made current, with a ``cuda.core`` that does nothing but check arguments."""
    devices: list[int] = []
    assert hasattr(real.Kernel, "occupancy")
    kernel = SimpleNamespace(
        occupancy=SimpleNamespace(
            max_active_clusters=taking_what(real_occupancy.max_active_clusters, 5, bound=True),
            max_active_blocks_per_multiprocessor=taking_what(
                real_occupancy.max_active_blocks_per_multiprocessor, 2, bound=True
            ),
        ),
        **{name: 7 for name in ("handle", "_handle") if hasattr(real.Kernel, name)},
    )
    code = SimpleNamespace(get_kernel=taking_what(real.ObjectCode.get_kernel, kernel, bound=True))

    def device(index: int) -> SimpleNamespace:
        inspect.signature(real.Device).bind(index)
        devices.append(index)
        return SimpleNamespace(set_current=taking_what(real.Device.set_current, bound=True))

    core = SimpleNamespace(
        Device=device,
        LaunchConfig=launch_config,
        ObjectCode=SimpleNamespace(from_cubin=taking_what(real.ObjectCode.from_cubin, code)),
        Stream=SimpleNamespace(from_handle=taking_what(real.Stream.from_handle, object())),
        launch=taking_what(real.launch),
    )
    success = driver.CUresult.CUDA_SUCCESS
    for name, result in (("cuCtxGetDevice", (success, 0)), ("cuKernelSetAttribute", (success,))):
        monkeypatch.setattr(driver, name, taking_what(getattr(driver, name), result))
    monkeypatch.setattr(compiler, "core", lambda: core)
    monkeypatch.setattr(compiler, "cubin", lambda name, constants, architecture: b"code")
    monkeypatch.setattr(launches, "device", lambda index: plans.Device(90, 232448, 16, 132))
    monkeypatch.setattr(launches, "_raw_stream", lambda index: 0)
    monkeypatch.setattr(launches, "_thread", launches._Thread())
    return devices


def test_loading_asking_and_launching(current: list[int]) -> None:
    assert RESIDENT is not None
    assert RESIDENT.cluster == 16, "the permission for large clusters shall be part of this"
    kernel = launches.Kernel(KIND, "resident", RESIDENT, RESIDENT.constants, cluster=16)
    assert current == [0]
    assert kernel.clusters_at_once() == 5
    assert kernel.blocks_per_multiprocessor() == 2
    kernel(3, 1, 2, 0.5)


def test_blocks_without_clusters_are_counted_by_multiprocessors(current: list[int]) -> None:
    plan = plans.resident_layout(64, 50, cluster=1, warps=8)
    assert plan is not None
    kernel = launches.Kernel(KIND, "resident", plan, plan.constants)
    assert kernel.clusters_at_once() == 2 * 132


def test_a_cooperative_launch_can_be_asked_for(current: list[int]) -> None:
    plan = plans.persistent(8192, 2000, launches.device(0))
    assert plan is not None
    launches.Kernel(
        KIND, "persistent", plan, plan.constants, cluster=plan.cluster, cooperative=True
    )(8, 1)


@pytest.mark.parametrize("architecture", [80, 90])
def test_a_launch_without_clusters_can_be_asked_for(architecture: int, current: list[int]) -> None:
    extras = launches._extras(architecture, cooperative=False)
    launches._config(1, extras=extras, cluster=None, block=256, shmem_size=1024)


def test_an_unknown_word_of_a_launch_is_noticed() -> None:
    with pytest.raises(TypeError):
        launch_config(grid=1, block=32, no_such_word=True)


def test_compiling() -> None:
    try:
        code = compiler.compiled('extern "C" __global__ void nothing() {}', "sm_90")
    except (TypeError, AttributeError):
        raise
    except Exception as error:  # noqa: BLE001
        # NVRTC or, for early versions, the driver is missing: its type varies by version.
        pytest.skip(f"nothing can be compiled here: {error}")
    assert code.startswith(b"\x7fELF")
