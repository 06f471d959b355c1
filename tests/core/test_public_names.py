"""The public names of every package, and the cost of its import."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT

PACKAGES = sorted(
    ".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "crkd").rglob("__init__.py")
)
HEAVY = {"scipy.optimize", "matplotlib", "sklearn", "pyarrow", "torchvision", "timm", "faiss", "ot"}
ONE_LINERS = [
    "from crkd import NovelClassDiscovery",
    "from crkd.losses import ClassRelationLoss, swapped_prediction",
    "from crkd.losses.distillation import class_relation, kd, lwf",
    "from crkd.models import NovelHeads, build_backbone, build_network",
    "from crkd.clustering import kmeans, semi_kmeans, estimate_class_count, near_duplicates",
    "from crkd.evaluation import clustering_accuracy, confusion, evaluate",
    "from crkd.ot import sinkhorn, solve, solve_batch",
    "from crkd.data import BatchLoader, load_dataset, partition",
    "from crkd.data.splits import partition",
    "from crkd.inference import predict",
    "from crkd.stages.discover import discover",
    "from crkd.embedding import embed_images",
]
FUNCTIONS_LIKE_THEIR_MODULES = [
    "crkd.clustering.kmeans",
    "crkd.clustering.semi_kmeans",
    "crkd.clustering.near_duplicates",
    "crkd.data.augment.render",
    "crkd.data.splits.partition",
    "crkd.evaluation.confusion",
    "crkd.inference.predict",
    "crkd.losses.distillation.class_relation",
    "crkd.losses.distillation.kd",
    "crkd.losses.distillation.lwf",
    "crkd.losses.swapped_prediction",
    "crkd.models.diswot",
    "crkd.ot.sinkhorn",
]


FORGET_CRKD = """
import sys
for module in [m for m in sys.modules if m.split('.')[0] == 'crkd']:
    del sys.modules[module]
"""
ANY_ORDER = f"""
import importlib, inspect
for path in {FUNCTIONS_LIKE_THEIR_MODULES}:
    package, _, name = path.rpartition('.')
    for first, second in ((path, package), (package, path)):
        exec(forget)
        importlib.import_module(first)
        importlib.import_module(second)
        found = {{}}
        exec(f'from {{package}} import {{name}} as function', found)
        assert inspect.isfunction(found['function']), path
        assert inspect.ismodule(importlib.import_module(path)), path
"""
PROGRAMS = {
    "light packages": (
        "import crkd, crkd.core, crkd.config, crkd.commands, crkd.evaluation, crkd.clustering"
    ),
    "packages": "\n".join(f"import {package}" for package in PACKAGES),
    "one-liners": "\n".join(ONE_LINERS),
    "any order": ANY_ORDER,
}
"""One after the other, in an interpreter that forgets this package before each of them."""


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    """Error of each program, and the modules that the interpreter holds after it."""
    program = (
        "import json, sys, traceback\n"
        f"forget, outcomes = {FORGET_CRKD!r}, {{}}\n"
        f"for name, program in {PROGRAMS!r}.items():\n"
        "    exec(forget)\n"
        "    error = ''\n"
        "    try:\n"
        "        exec(program, {'forget': forget})\n"
        "    except BaseException:\n"
        "        error = traceback.format_exc()\n"
        "    outcomes[name] = {'error': error, 'modules': sorted(sys.modules)}\n"
        "print(json.dumps(outcomes))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    found: dict[str, dict[str, Any]] = json.loads(finished.stdout)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_every_exported_name_is_there_and_explained(package: str) -> None:
    module = importlib.import_module(package)
    assert len(set(module.__all__)) == len(module.__all__)
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        value = getattr(module, name)
        assert not inspect.ismodule(value), f"{name} is a module"
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name
            assert value.__module__.startswith(package), f"{name} is of {value.__module__}"


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_every_exported_name(package: str) -> None:
    """They do not know what is imported at the first use."""
    source = importlib.import_module(package).__file__
    assert source is not None
    seen = set()
    for node in ast.walk(ast.parse(Path(source).read_text())):
        if isinstance(node, ast.ImportFrom):
            seen |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            seen.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            seen.add(node.id)
    assert set(importlib.import_module(package).__all__) <= seen


@pytest.mark.parametrize("package", PACKAGES)
def test_a_name_that_is_not_there_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = importlib.import_module(package).nothing


def test_one_line_is_enough(outcomes: dict[str, dict[str, Any]]) -> None:
    assert not outcomes["one-liners"]["error"]


def test_a_function_wins_over_the_module_of_its_name(outcomes: dict[str, dict[str, Any]]) -> None:
    """Whichever of package, module and function is imported first."""
    assert not outcomes["any order"]["error"]


def test_the_packages_alone_cost_nothing(outcomes: dict[str, dict[str, Any]]) -> None:
    """The interpreter forgets nothing but this package: later programs hold no less."""
    light, everything = outcomes["light packages"], outcomes["packages"]
    assert not light["error"]
    assert not everything["error"]
    assert "torch" not in light["modules"]
    assert not HEAVY & set(everything["modules"])


def test_every_distillation_term_has_a_loss_on_plain_tensors() -> None:
    from crkd import losses

    kinds = {
        value.kind
        for value in (getattr(losses, name) for name in losses.__all__)
        if inspect.isclass(value)
        and issubclass(value, losses.TensorLoss)
        and hasattr(value, "kind")
    }
    shipped = set(map(losses.TERMS.get, losses.TERMS.names()))
    assert {term for term in shipped if term.__module__.startswith("crkd.")} == kinds
