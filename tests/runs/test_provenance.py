"""Provenance of results, on machines with and without a repository."""

import importlib.metadata
import subprocess
import sys

import pytest
import sklearn
import torch

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


def test_an_imported_package_says_its_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel of PyTorch on PyPI has no build in its metadata."""
    monkeypatch.setattr(torch, "__version__", "9.9.0+cu130")
    found = provenance.versions()
    assert found["torch"] == "9.9.0+cu130"
    assert found["scikit-learn"] == sklearn.__version__
    monkeypatch.delitem(sys.modules, "torch")
    assert provenance.versions()["torch"] == importlib.metadata.version("torch")
