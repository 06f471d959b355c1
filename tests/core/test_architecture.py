"""The rules of the house, held by reading the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGE = ROOT / "crkd"
DOMAINS = {"ot", "losses", "models", "data", "evaluation", "features"}
ALLOWED = {
    "core": set(),
    "config": {"core"},
    "engine": DOMAINS | {"core", "config"},
    "people": DOMAINS | {"core", "config", "engine"},
    "commands": DOMAINS | {"core", "config", "engine", "people"},
    **{domain: {"core"} for domain in DOMAINS},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(file: Path) -> set[str]:
    """Return every module that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_go_one_way(file: Path) -> None:
    parts = file.relative_to(PACKAGE).parts
    if len(parts) == 1:
        return
    here = parts[0]
    used = {name.split(".")[1] for name in imported(file) if name.startswith("crkd.")}
    assert used - {here} <= ALLOWED[here]


def test_evaluation_does_not_need_torch() -> None:
    files = (PACKAGE / "evaluation").rglob("*.py")
    assert not [f for f in files if any(n.split(".")[0] == "torch" for n in imported(f))]


def test_faiss_lives_in_features_alone() -> None:
    users = {f.relative_to(PACKAGE).parts[0] for f in FILES if "faiss" in imported(f)}
    assert users == {"features"}


def test_nothing_is_unpickled() -> None:
    for file in FILES:
        tree = ast.parse(file.read_text())
        assert not imported(file) & {"pickle", "dill", "joblib", "cloudpickle"}, file
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), file
                assert node.value.value is False, file
            if isinstance(node, ast.keyword) and node.arg == "weights_only":
                assert isinstance(node.value, ast.Constant), file
                assert node.value.value is True, file


def test_files_stay_readable() -> None:
    long = {str(f): n for f in FILES if (n := len(f.read_text().splitlines())) > 320}
    assert not long


def test_no_drawer_for_odds_and_ends() -> None:
    assert not [f for f in FILES if f.stem in {"utils", "helpers", "misc", "common"}]
