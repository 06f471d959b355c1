"""Layouts cover their problem, fit their device and follow from its shape alone."""

from __future__ import annotations

import inspect

from hypothesis import given
from hypothesis import strategies as st

from crkd.ot.cuda import plans

DEVICES = [
    plans.Device(80, 166912, 1, 108),
    plans.Device(86, 101376, 1, 84),
    plans.Device(90, 232448, 16, 132),
    plans.Device(100, 232448, 8, 132),
    plans.Device(120, 101376, 1, 84),
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
    assert plan.cluster <= device.largest_cluster


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


@given(st.integers(1, 20000), st.integers(1, 9000), st.sampled_from(DEVICES))
def test_persistent_layouts_cover_and_fit(n: int, m: int, device: plans.Device) -> None:
    plan = plans.persistent(n, m, device)
    if plan is None:
        assert m > 4096
        return
    assert 8 * plan.quads * plan.team * 32 >= m
    assert plan.blocks * plan.together <= device.multiprocessors
    assert plan.blocks % plan.cluster == 0
    assert plan.cluster <= device.largest_cluster
    assert plan.shared_bytes <= device.shared_bytes
    rows = plan.kept + plan.shared + plan.stored
    assert plan.blocks * (plan.warps // plan.team) * rows >= n
    assert plan.kept % 4 == plan.shared % 4 == plan.stored % 4 == 0


@given(st.integers(1, 4096), st.integers(1, 1000), st.sampled_from(DEVICES))
def test_two_blocks_of_a_dense_layout_fit_a_multiprocessor(
    n: int, m: int, device: plans.Device
) -> None:
    plan = plans.resident(n, m, device)
    dense = plan and plans.two_per_multiprocessor(plan, device)
    if plan is None or dense is None:
        return
    assert 2 * (dense.shared_bytes + 1024) <= device.shared_bytes + 1024
    # Whatever else differed could change the order of a sum.
    assert dense == plan._replace(rows_in_registers=dense.rows_in_registers, blocks_per_sm=2)
    assert 0 <= dense.rows_in_registers <= plan.rows


def test_layouts_know_nothing_of_the_number_of_problems() -> None:
    """Hence the order of sums, and every bit, is the same whatever else runs."""
    assert list(inspect.signature(plans.resident).parameters) == ["n", "m", "device"]
    assert list(inspect.signature(plans.streaming).parameters) == ["n", "m"]
    assert list(inspect.signature(plans.persistent).parameters) == ["n", "m", "device"]


def test_the_shapes_of_the_benchmark() -> None:
    hopper = plans.Device(90, 232448, 16, 132)
    for shape in ((256, 50), (512, 250), (512, 1000), (1024, 200)):
        assert plans.resident(*shape, hopper) is not None
    assert plans.resident(8192, 2000, hopper) is None
    third = plans.resident(512, 1000, hopper)
    assert third is not None
    assert (third.cluster, third.rows_in_registers) == (16, third.rows)
    assert third.split
    for shape in ((512, 250), (1024, 200)):
        plan = plans.resident(*shape, hopper)
        assert plan is not None
        assert plans.two_per_multiprocessor(plan, hopper) is not None


def test_a_device_that_grants_fewer_blocks_a_cluster_still_has_a_layout() -> None:
    plan = plans.resident(512, 1000, plans.Device(90, 232448, 8, 132))
    assert plan is not None
    assert plan.cluster == 8
    assert plans.streaming(8192, 2000) is not None
