"""Processes of tests that are forks have everything imported."""

from __future__ import annotations

import sys

from tests.support.forked import in_fork


def modules() -> set[str]:
    return set(sys.modules)


def test_a_fork_need_not_import_torch() -> None:
    """An import that fails in the server of forks would only cost time, and nobody would see it."""
    assert in_fork(modules) >= {"torch._dynamo", "torchvision", "crkd.stages.reproduce", "sklearn"}
