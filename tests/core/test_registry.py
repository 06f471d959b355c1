from __future__ import annotations

import sys
from pathlib import Path

import pytest

from crkd.core.errors import InputError
from crkd.core.registry import Registry


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "plugins_of_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "one.py").write_text(
        "from plugins_of_test.registry import R\n\n@R.register('alpha')\ndef alpha(): return 1\n"
    )
    (folder / "registry.py").write_text(
        "from crkd.core.registry import Registry\nR = Registry('thing', 'plugins_of_test')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "plugins_of_test"
    for name in [n for n in sys.modules if n.startswith("plugins_of_test")]:
        del sys.modules[name]


def registry_of(package: str) -> Registry:
    import importlib

    return importlib.import_module(f"{package}.registry").R


def test_a_new_file_is_found_without_editing_a_list(package: str) -> None:
    registry = registry_of(package)
    assert registry.names() == ["alpha"]
    assert registry.get("alpha")() == 1


def test_unknown_name_lists_the_choices_and_the_nearest(package: str) -> None:
    with pytest.raises(InputError, match=r"unknown thing 'alpa' \(did you mean 'alpha'\?\)"):
        registry_of(package).get("alpa")


def test_a_name_is_registered_once(package: str) -> None:
    registry = registry_of(package)
    registry.names()
    with pytest.raises(RuntimeError, match="registered twice"):
        registry.register("alpha")(object())
