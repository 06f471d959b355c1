"""Layouts cover their problem, fit their device and follow from its shape alone."""

from __future__ import annotations

import inspect

from hypothesis import given
from hypothesis import strategies as st

from crkd.ot.cuda import plans

DEVICES = [
    plans.Device(80, 166912),
    plans.Device(86, 101376),
    plans.Device(90, 232448),
    plans.Device(100, 232448),
    plans.Device(120, 101376),
]


@given(st.integers(1, 20000), st.integers(1, 3000), st.sampled_from(DEVICES))
def test_resident_layouts_cover_and_fit(n: int, m: int, device: plans.Device) -> None:
    plan = plans.resident(n, m, device)
    if plan is None:
        return
    rows = plan.cluster * plan.warps * (32 // plan.lanes) * plan.rows
    assert rows >= n
    assert (plan.columns - 1) * plan.lanes < m <= plan.columns * plan.lanes
    assert plan.shared_bytes <= device.shared_bytes
    assert plan.threads <= 1024
    assert plan.cluster in ((1, 2, 4, 8) if device.has_clusters else (1,))


@given(st.integers(1, 20000), st.integers(1, 17000))
def test_streaming_layouts_cover(n: int, m: int) -> None:
    plan = plans.streaming(n, m)
    if m > 16384:
        assert plan is None
        return
    assert plan is not None
    assert plan.columns * plan.team * 32 >= m
    assert 1 <= plan.chunks <= 128
    assert plan.groups * plan.chunks_per_group >= plan.chunks
    assert plan.shared_bytes <= 48 * 1024


def test_layouts_know_nothing_of_the_number_of_problems() -> None:
    """Hence the order of sums, and every bit, is the same whatever else runs."""
    assert list(inspect.signature(plans.resident).parameters) == ["n", "m", "device"]
    assert list(inspect.signature(plans.streaming).parameters) == ["n", "m"]


def test_the_shapes_of_the_benchmark() -> None:
    hopper = plans.Device(90, 232448)
    for shape in ((256, 50), (512, 250), (512, 1000), (1024, 200)):
        assert plans.resident(*shape, hopper) is not None
    assert plans.resident(8192, 2000, hopper) is None
    assert plans.streaming(8192, 2000) is not None
