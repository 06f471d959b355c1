"""The host's part of the CUDA backend: what it launches, run by the stand-in for the machine.

Everything from the front door to the launch is the real thing: choice of kernel, addresses,
strides, workspaces, counters. Scores in host memory claim to be on a GPU (``FakeCudaTensor``).
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from unittest import mock

import pytest
import torch
from torch import Tensor

from crkd.ot import sinkhorn
from crkd.ot.cuda import compiler, launches, plans, solver


@pytest.fixture
def launched(
    benchmark: ModuleType, kernels_on_cpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """Names of the kernels that were launched, in order."""
    names: list[str] = []

    def launch(stream: int, config: dict[str, int], kernel: SimpleNamespace, *given: float) -> None:
        name, constants = kernel.code
        names.append(name)
        typed = [
            ctypes.c_double(value) if isinstance(value, float) else ctypes.c_longlong(value)
            for value in given
        ]
        problems = config["grid"]
        if name == "streaming":
            problems //= given[12]
        if name == "persistent":
            assert config["is_cooperative"]
            problems //= constants["BLOCKS"] // constants["CLUSTER"]
        library = kernels_on_cpu._library(name, tuple(constants.items()))
        library.run(*typed, problems, config["block"], config["shmem_size"], 0)

    # As few threads as the shapes allow: each is a fiber here.
    monkeypatch.setattr(plans, "resident", lambda n, m, device: small_resident(n, m))
    monkeypatch.setattr(plans, "streaming", lambda n, m: plans.Streaming(2, 1, 2, 2))
    monkeypatch.setattr(plans, "persistent", small_persistent)
    with benchmark.simulated_gpu(launch):
        yield names


def small_resident(n: int, m: int) -> plans.Resident | None:
    return plans.resident_layout(n, m, cluster=2, warps=1, lanes=8) if n < 30 else None


def small_persistent(n: int, m: int, device: plans.Device) -> plans.Persistent:
    cluster = min(2, device.largest_cluster)
    few = device._replace(multiprocessors=4, shared_bytes=12000)
    return plans.persistent_layout(n, m, few, blocks=4, cluster=cluster, warps=1)


CASES = {
    "resident": ((3, 20, 11), 5, {}, ["resident"]),
    "resident, leading dimensions": ((2, 2, 9, 11), 2, {}, ["resident"]),
    "resident, marginals": ((3, 20, 11), 3, {"b": 1, "a": 2}, ["resident"]),
    "streaming": ((3, 40, 11), 3, {}, ["streaming"] * 4),
    "streaming, relaxed": ((2, 20, 11), 3, {"relaxation": 0.2}, ["streaming"] * 4),
    "streaming, marginals": ((3, 40, 11), 2, {"b": 2, "a": 1}, ["streaming"] * 3),
    "few iterations": ((2, 40, 11), 3, {"storage": torch.bfloat16}, ["streaming"] * 4),
    "persistent": (
        (2, 120, 11),
        6,
        {"storage": torch.bfloat16, "b": 2, "a": 2},
        ["streaming", "persistent", "persistent", "streaming"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_launched_solves_the_problem(
    name: str,
    launched: list[str],
    benchmark: ModuleType,
    float64_loop: Callable[..., Tensor],
    row_error: Callable[[Tensor, Tensor], float],
) -> None:
    shape, num_iters, options, kernels = CASES[name]
    torch.manual_seed(0)
    n, m = shape[-2:]
    given: dict[str, object] = {"epsilon": 0.1, "num_iters": num_iters}
    marginals: dict[str, Tensor] = {}
    for key, value in options.items():
        if key not in "ab":
            given[key] = value
            continue
        size = m if key == "b" else n
        wanted = torch.rand(size if value == 1 else (*shape[:-2], size)) + 0.1
        marginals[key] = wanted / wanted.sum(-1, keepdim=True)
        full = "class_marginal" if key == "b" else "sample_marginal"
        given[full] = marginals[key].as_subclass(benchmark.FakeCudaTensor)
    for _ in range(2):  # the second call takes the short way
        whole = torch.randn(*shape[:-1], m + 3)
        scores = whole[..., 2 : m + 2]
        launched.clear()
        result = sinkhorn(scores.as_subclass(benchmark.FakeCudaTensor), **given)
        assert launched == kernels
        expected = float64_loop(
            scores.reshape(-1, n, m),
            0.1,
            num_iters,
            relaxation=options.get("relaxation"),
            **marginals,
        )
        tolerance = 3e-3 if name == "persistent" else 2e-5
        assert row_error(result.reshape(-1, n, m), expected) <= tolerance


def test_an_epsilon_in_a_tensor_may_change_between_two_calls(
    launched: list[str],
    benchmark: ModuleType,
    float64_loop: Callable[..., Tensor],
    row_error: Callable[[Tensor, Tensor], float],
) -> None:
    epsilon = torch.tensor(0.1)
    for value in (0.1, 1.0):
        scores = torch.randn(3, 20, 11)
        given = scores.as_subclass(benchmark.FakeCudaTensor)
        result = sinkhorn(given, epsilon=epsilon.fill_(value), num_iters=5)
        assert row_error(result, float64_loop(scores, value, 5)) <= 2e-5
    assert launched == ["resident"] * 2


@pytest.mark.parametrize(("n", "launches_made"), [(20, 1), (40, 4)])
def test_marginals_of_any_strides(
    n: int,
    launches_made: int,
    launched: list[str],
    benchmark: ModuleType,
    float64_loop: Callable[..., Tensor],
    row_error: Callable[[Tensor, Tensor], float],
) -> None:
    """One row for all problems has stride 0, a transposed table has its rows apart."""
    torch.manual_seed(0)
    p, m = 3, 11
    scores, b, a = torch.randn(p, n, m), torch.rand(1, m) + 0.1, torch.rand(n, p).T + 0.1
    result = sinkhorn(
        scores.as_subclass(benchmark.FakeCudaTensor),
        epsilon=0.1,
        num_iters=3,
        class_marginal=b.as_subclass(benchmark.FakeCudaTensor),
        sample_marginal=a.as_subclass(benchmark.FakeCudaTensor),
    )
    assert len(launched) == launches_made
    b, a = b / b.sum(), a / a.sum(-1, keepdim=True)
    assert row_error(result, float64_loop(scores, 0.1, 3, b[0], a)) <= 2e-5


@pytest.mark.parametrize(("architecture", "overlaps"), [(80, False), (90, True)])
def test_only_kernels_that_wait_themselves_may_overlap(
    architecture: int, overlaps: bool, benchmark: ModuleType
) -> None:
    device = plans.Device(architecture, 101376, 1, 84)
    kind = launches.Kind(0, 64, 20, torch.float32, False, False, False)
    with (
        benchmark.simulated_gpu(lambda *arguments: None),
        mock.patch.object(launches, "device", return_value=device),
    ):
        config = solver.prepare(kind).kernel._config(1)
    assert config.get("programmatic_stream_serialization", False) == overlaps


@pytest.mark.parametrize(("granted", "cluster"), [(8, 16), (0, 8)])
def test_a_device_that_refuses_clusters_of_16_gets_8(
    granted: int, cluster: int, benchmark: ModuleType
) -> None:
    kind = launches.Kind(0, 512, 1000, torch.float32, False, False, False)
    with (
        benchmark.simulated_gpu(lambda *arguments: None),
        mock.patch.object(launches.Kernel, "clusters_at_once", return_value=granted),
    ):
        run = solver.prepare(kind)
    assert run.kernel._kernel.code[1]["CLUSTER"] == cluster


@pytest.mark.parametrize(
    ("fitting", "room", "dense"), [(1, 32, True), (1, 16, False), (2, 32, False)]
)
def test_many_problems_share_multiprocessors(
    fitting: int, room: int, dense: bool, benchmark: ModuleType
) -> None:
    """Only where the other kernel does not do so already, and only if more problems fit."""
    launched: list[int] = []

    def launch(stream: int, config: object, kernel: SimpleNamespace, *given: float) -> None:
        launched.append(kernel.code[1]["BLOCKS_PER_SM"])

    def at_once(kernel: launches.Kernel) -> int:
        return room if kernel._kernel.code[1]["BLOCKS_PER_SM"] == 2 else 16

    with (
        benchmark.simulated_gpu(launch),
        mock.patch.object(launches.Kernel, "blocks_per_multiprocessor", return_value=fitting),
        mock.patch.object(launches.Kernel, "clusters_at_once", at_once),
    ):
        for p in (1, 16, 17, 64):
            scores = torch.zeros(p, 1024, 200).as_subclass(benchmark.FakeCudaTensor)
            sinkhorn(scores, epsilon=0.1, num_iters=3)
    assert launched == [1, 1, *([2, 2] if dense else [1, 1])]


@pytest.mark.parametrize(("granted", "cluster", "together"), [(16, 8, 2), (9, 8, 1), (7, 1, 2)])
def test_a_device_without_room_for_the_clusters_of_a_problem_gets_none(
    granted: int, cluster: int, together: int, benchmark: ModuleType
) -> None:
    kind = launches.Kind(0, 8192, 2000, torch.float32, False, False, True)
    with (
        benchmark.simulated_gpu(lambda *arguments: None),
        mock.patch.object(launches.Kernel, "clusters_at_once", return_value=granted),
    ):
        run = solver.prepare(kind)
    assert run.persistent.plan.cluster == cluster
    assert run.persistent.together == together


@pytest.mark.parametrize("n", [20, 40])
def test_every_thread_makes_the_device_current_once(
    n: int, launched: list[str], benchmark: ModuleType
) -> None:
    """A thread that has not worked on a GPU has no context; the first launch would fail."""
    events: list[tuple[int, str]] = []

    def event(name: str) -> None:
        events.append((threading.get_ident(), name))

    def noted(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def run(*given: object) -> object:
            event(name)
            return call(*given)

        return run

    core = compiler.core()
    core.Device = lambda index: SimpleNamespace(set_current=lambda: event("current"))
    core.launch = noted("launch", core.launch)
    core.Stream.from_handle = noted("stream", core.Stream.from_handle)
    load = noted("load", compiler.load)

    def solve_thrice() -> None:
        for _ in range(3):
            scores = torch.randn(2, n, 11).as_subclass(benchmark.FakeCudaTensor)
            sinkhorn(scores, epsilon=0.1, num_iters=2)

    for loads in (True, False):
        events.clear()
        worker = threading.Thread(target=solve_thrice)
        with mock.patch.object(compiler, "load", load):
            worker.start()
            worker.join()
        assert len({ident for ident, _ in events}) == 1
        names = [name for _, name in events]
        assert names[0] == "current"
        assert names.count("launch") == 3 * (1 if n == 20 else 3)
        assert ("load" in names) == loads
        # One time more for each kernel that was loaded.
        assert names.count("current") == 1 + names.count("load")


def test_the_python_part_of_a_call_is_short(benchmark: ModuleType) -> None:
    """10 us is the aim on a quiet machine; the bound here only catches a lost short way."""
    assert benchmark._python_part(200)["value"] < 200
