from __future__ import annotations

import math

import pytest
import torch

from crkd.ot.diagnostics import diagnose


def test_decided_and_balanced() -> None:
    diagnostics = diagnose(torch.eye(4).repeat(5, 1)[None])
    assert diagnostics.clusters_used.tolist() == [4]
    assert diagnostics.largest_cluster.tolist() == [0.25]
    assert diagnostics.smallest_cluster.tolist() == [0.25]
    assert diagnostics.marginal_error.tolist() == [0]
    assert diagnostics.entropy.tolist() == [0]
    torch.testing.assert_close(diagnostics.gap_to_ln_m, torch.tensor([math.log(4)]))
    assert diagnostics.stuck.tolist() == [False]


def test_collapsed_to_one_class() -> None:
    rows = torch.zeros(10, 5)
    rows[:, 2] = 1
    diagnostics = diagnose(rows)
    assert int(diagnostics.clusters_used) == 1
    assert float(diagnostics.largest_cluster) == 1
    assert float(diagnostics.smallest_cluster) == 0
    torch.testing.assert_close(diagnostics.marginal_error, torch.tensor(4 * 0.2 + 0.8))
    assert bool(diagnostics.collapsed)
    assert not bool(diagnostics.stuck)


def test_a_class_that_shall_be_large_has_not_collapsed() -> None:
    rows = torch.eye(2)[[0] * 9 + [1]]
    assert bool(diagnose(rows).collapsed)
    assert not bool(diagnose(rows, torch.tensor([0.9, 0.1])).collapsed)
    assert not bool(diagnose(torch.eye(5)[[0, 0, 0]]).collapsed), "fewer samples than classes"


def test_undecided_is_stuck() -> None:
    rows = torch.stack([torch.full((6, 3), 1 / 3), torch.eye(3).repeat(2, 1)])
    diagnostics = diagnose(rows)
    assert diagnostics.stuck.tolist() == [True, False]


def test_one_class_is_never_stuck() -> None:
    assert not bool(diagnose(torch.ones(4, 1)).stuck)


def test_marginal_error_is_taken_against_the_marginal_asked_for() -> None:
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert float(diagnose(rows, torch.tensor([0.75, 0.25])).marginal_error) == 0
    assert float(diagnose(rows).marginal_error) == 0.5


def test_counts_are_exact_whatever_the_default_dtype(
    request: pytest.FixtureRequest,
) -> None:
    """A sum of ones in bfloat16 ends at 256."""
    assignment = torch.eye(2).repeat_interleave(torch.tensor([700, 300]), 0)
    request.addfinalizer(lambda: torch.set_default_dtype(torch.float32))
    torch.set_default_dtype(torch.bfloat16)
    found = diagnose(assignment)
    assert float(found.largest_cluster) == pytest.approx(0.7)
    assert float(found.smallest_cluster) == pytest.approx(0.3)
