"""Tiles of the Triton kernels cover every problem and depend on its shape alone."""

from __future__ import annotations

import math

import pytest

from crkd.ot.triton import plans

SIZES = (1, 2, 15, 16, 17, 50, 256, 1000, 4096, 4097, 20000)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("m", SIZES)
def test_tiles_cover_the_problem(n: int, m: int) -> None:
    plan = plans.plan(n, m)
    assert plan.wide == (plan.columns < m)
    assert (plan.chunks - 1) * plan.rows_per_chunk < n <= plan.chunks * plan.rows_per_chunk
    assert plan.rows_per_chunk % plan.rows == 0
    assert plan.chunks <= plan.chunk_rows <= 256
    for size in (plan.rows, plan.columns, plan.warps, plan.chunk_rows, plan.chunk_columns):
        assert size == 1 << int(math.log2(size)), "Triton's tiles and warps are powers of two"


@pytest.mark.parametrize("m", SIZES)
def test_a_thread_has_few_entries_and_a_program_is_not_too_large(m: int) -> None:
    plan = plans.plan(1000, m)
    assert plan.rows * plan.columns == 8 * 32 * plan.warps
    assert plan.warps * 64 <= 1024, "AMD has 64 threads a warp and 1024 a program"
    assert plan.chunk_rows * plan.chunk_columns <= 4096


def test_plans_with_the_same_machine_code_have_one_name() -> None:
    three, four, five = (plans.plan(n, 50) for n in (40, 60, 70))
    assert (three.chunks, four.chunks, five.chunks) == (3, 4, 5)
    assert three.compiled == four.compiled
    assert four.compiled != five.compiled
