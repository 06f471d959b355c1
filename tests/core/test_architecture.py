"""The rules of the house, held by reading the code."""

from __future__ import annotations

import ast
import functools
from collections import Counter
from pathlib import Path

from tests.support import ROOT

PACKAGE = ROOT / "crkd"
DOMAINS = {"config", "data", "ot", "models", "losses", "clustering", "evaluation"}
FLOORS = [
    {"core"},
    DOMAINS,
    {"runs"},
    {"training"},
    {"embedding"},
    {"stages"},
    {"inference", "gpu_checks", "estimator"},
    {"review"},
    {"commands"},
]
"""A package imports those of the floors below it, and none of its own floor."""

LARGEST_FOLDER = 25
LARGEST_SHARE = 0.20
FILES = sorted(PACKAGE.rglob("*.py"))


@functools.cache
def nodes_of(file: Path) -> list[ast.AST]:
    """Return the syntax tree of a file, node by node."""
    return list(ast.walk(ast.parse(file.read_text())))


@functools.cache
def imported(file: Path) -> frozenset[str]:
    """Return every module that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in nodes_of(file):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def floor_of(package: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if package in floor)


def package_of(file: Path) -> str:
    """Return the top-level package of a file, or the name of a top-level module."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def packages_used(file: Path) -> set[str]:
    """Return the other packages of this repository that a file imports."""
    used = {name.split(".")[1] for name in imported(file) if name.startswith("crkd.")}
    return used - {package_of(file), "__version__", "NovelClassDiscovery"}


def test_imports_go_down() -> None:
    upward = [
        f"{file.relative_to(PACKAGE)} imports {package}"
        for file in FILES
        if (here := package_of(file)) != "__init__"
        for package in packages_used(file)
        if floor_of(package) >= floor_of(here)
    ]
    assert not upward


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions count too: they hide a circle, but do not remove it."""
    names = {".".join(f.relative_to(PACKAGE.parent).with_suffix("").parts): f for f in FILES}
    graph = {name: imported(file) & names.keys() - {name} for name, file in names.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for used in sorted(graph[name]):
                visit(used, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_no_folder_is_a_drawer() -> None:
    folders = {file.parent for file in FILES}
    counts = {str(f.relative_to(PACKAGE)): len(list(f.glob("*.py"))) for f in folders}
    assert not {folder: n for folder, n in counts.items() if n > LARGEST_FOLDER}


def test_no_package_outgrows_the_others() -> None:
    lines: Counter[str] = Counter()
    for file in FILES:
        lines[package_of(file)] += len(file.read_text().splitlines())
    total = sum(lines.values())
    shares = {package: round(count / total, 3) for package, count in lines.items()}
    assert not {package: share for package, share in shares.items() if share > LARGEST_SHARE}


def test_evaluation_does_not_need_torch() -> None:
    files = (PACKAGE / "evaluation").rglob("*.py")
    assert not [f for f in files if any(n.split(".")[0] == "torch" for n in imported(f))]


def test_faiss_is_imported_in_clustering_alone() -> None:
    users = {f.relative_to(PACKAGE).parts[0] for f in FILES if "faiss" in imported(f)}
    assert users == {"clustering"}


def test_nothing_is_unpickled() -> None:
    for file in FILES:
        assert not imported(file) & {"pickle", "dill", "joblib", "cloudpickle"}, file
        for node in nodes_of(file):
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
