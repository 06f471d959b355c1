"""Provenance of results, on machines with and without a repository."""

import subprocess

import pytest

from crkd.runs import provenance


def test_the_commit_is_that_of_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRKD_COMMIT", raising=False)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode:
        pytest.skip("this is not a git checkout")
    commit = provenance.git_commit()
    assert commit is not None
    assert commit.removesuffix("+changes") == head.stdout.strip()


def test_the_environment_names_the_commit_of_a_copied_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRKD_COMMIT", "0123abc+changes")
    assert provenance.git_commit() == "0123abc+changes"
