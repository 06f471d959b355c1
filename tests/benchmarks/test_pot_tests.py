"""POT's own tests with our solver: the adaptor gives POT's results, and tests are counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ot.batch
import ot.bregman
import pytest
import torch

from benchmarks import pot_tests
from benchmarks.pot_adaptor import Adaptor
from crkd.core.errors import InputError

Call = Callable[[], Any]

TESTS = """
import numpy as np
import ot
import torch

M = np.random.RandomState(0).rand(6, 4)
A, B = np.full(6, 1 / 6), np.full(4, 1 / 4)


def test_passes():
    np.testing.assert_allclose(ot.sinkhorn(A, B, M, 0.3), ot.solve(M, A, B, 0.3).plan, atol=1e-7)


def test_fails():
    assert ot.sinkhorn(A, B, M, 0.3).sum() > 2, "a plan has mass 1"


def test_is_not_expressed():
    ot.sinkhorn2(torch.tensor(A, requires_grad=True), torch.tensor(B), torch.tensor(M), 0.3)


def test_has_no_solver():
    assert not ot.emd(A, B, M).sum() > 2
"""


def problem() -> tuple[Any, Any, Any]:
    draw = np.random.RandomState(1)
    a, b = draw.rand(7) + 0.1, draw.rand(5, 3) + 0.1
    return a / a.sum(), b / b.sum(0), draw.rand(7, 5)


@pytest.mark.parametrize("method", ["sinkhorn", "sinkhorn_log", "sinkhorn_stabilized"])
@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("start", [False, True])
def test_results_are_those_of_pot(method: str, targets: int, start: bool) -> None:
    a, b, cost = problem()
    b = b[:, 0] if targets == 1 else b
    start = start and targets == 1
    given = (np.linspace(0, 1, 7), np.linspace(1, 0, 5)) if start else None

    def solved() -> Any:
        return ot.sinkhorn(a, b, cost, 0.2, method=method, stopThr=1e-12, log=True, warmstart=given)

    wanted, wanted_log = solved()
    adaptor = Adaptor()
    with adaptor.in_place():
        found, log = solved()
    assert adaptor.calls == 1
    np.testing.assert_allclose(found, wanted, atol=1e-10)
    # Potentials are determined up to a constant.
    name = "logu" if method == "sinkhorn_stabilized" else "u"
    ours = log["log_u"]
    theirs = wanted_log[name] if name == "logu" else np.log(wanted_log[name])
    np.testing.assert_allclose(ours - ours[0], theirs - theirs[0], atol=1e-8)


@pytest.mark.parametrize(
    "call",
    [
        lambda cost: ot.batch.solve_batch(cost, 0.2, tol=1e-12, grad="detach").plan,
        lambda cost: ot.batch.bregman_projection_batch((-cost / 0.2).exp(), tol=1e-12)["T"],
        lambda cost: ot.batch.bregman_log_projection_batch(-cost / 0.2, tol=1e-12)["T"],
    ],
)
def test_batches_are_those_of_pot(call: Callable[[Any], Any]) -> None:
    cost = torch.rand(3, 6, 4, dtype=torch.float64, generator=torch.manual_seed(2))
    wanted = call(cost)
    adaptor = Adaptor()
    with adaptor.in_place():
        found = call(cost)
    assert adaptor.calls == 1
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-7)


def test_functions_of_pot_come_back() -> None:
    before = [ot.sinkhorn, ot.bregman.sinkhorn_log, ot.batch.solve_batch]
    with Adaptor().in_place():
        assert ot.sinkhorn is before[0], "only the solvers that it calls are replaced"
        assert ot.bregman.sinkhorn_log is not before[1]
        assert ot.batch.solve_batch is not before[2]
    assert [ot.sinkhorn, ot.bregman.sinkhorn_log, ot.batch.solve_batch] == before


def test_tests_that_reach_the_solver_are_counted(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    found = pot_tests.run(tmp_path, ("test_some.py",))
    assert found == {
        "test_passes": None,
        "test_fails": "AssertionError: a plan has mass 1",
        "test_is_not_expressed": "NotExpressedError: gradient with respect to a marginal",
    }


@pytest.mark.parametrize("given", [None, "empty"])
def test_a_folder_without_the_tests_is_refused(
    given: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CRKD_POT", raising=False)
    if given:
        monkeypatch.setenv("CRKD_POT", str(tmp_path))
    with pytest.raises(InputError, match="checkout of POT"):
        next(pot_tests.rows())


def test_tests_that_cannot_be_collected_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text("import a_module_that_does_not_exist")
    with pytest.raises(InputError, match="could not be run"):
        pot_tests.run(tmp_path, ("test_some.py",))
