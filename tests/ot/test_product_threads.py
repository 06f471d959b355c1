"""Products run on one thread where several would change their bits, and only there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from crkd.ot import product_threads
from crkd.ot.product_threads import limited_to, threads_for_products
from crkd.ot.scratch import Scratch

bmm = torch.bmm


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(product_threads, "_answers", {})
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def memory(count: int = 3) -> Scratch:
    return Scratch.of_problems(count, 20, 6, torch.float32)


@pytest.mark.parametrize(("change", "threads"), [(0.0, 2), (1e-6, 1)])
def test_only_products_that_differ_get_one_thread(
    change: float, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def product(left: Tensor, right: Tensor, *, out: Tensor) -> Tensor:
        calls.append(torch.get_num_threads())
        number = torch.get_num_threads()
        torch.set_num_threads(1)
        found = bmm(left, right, out=out).mul_(1 + change * (number - 1))
        torch.set_num_threads(number)
        return found

    monkeypatch.setattr(torch, "bmm", product)
    for _ in range(2):  # the result is cached
        assert threads_for_products(memory()) == threads
        assert calls == [2, 2, 1, 1]
    threads_for_products(memory(2))  # another number of problems is another question
    assert len(calls) == 8
    assert torch.get_num_threads() == 2


def test_nothing_is_asked_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(torch, "bmm", lambda *given, out: pytest.fail("a product was computed"))
    assert threads_for_products(memory()) == 1


def test_the_number_of_threads_is_restored_after_an_error() -> None:
    def fail() -> None:
        with limited_to(1):
            assert torch.get_num_threads() == 1
            raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        fail()
    assert torch.get_num_threads() == 2
