from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from crkd.core.errors import InputError
from crkd.core.registry import Plugin, Registry


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
    return importlib.import_module(f"{package}.registry").R


def test_a_new_file_is_found_without_editing_a_list(package: str) -> None:
    registry = registry_of(package)
    assert registry.names() == ["alpha"]
    assert registry.get("alpha")() == 1


def test_unknown_name_lists_the_choices_and_the_nearest(package: str) -> None:
    with pytest.raises(InputError, match=r"unknown thing 'alpa' \(did you mean 'alpha'\?\)"):
        registry_of(package).get("alpa")


def test_a_file_of_the_name_is_imported_alone(package: str) -> None:
    registry = registry_of(package)
    folder = Path(sys.modules[package].__path__[0])
    for name in ("beta", "slow"):
        (folder / f"{name}.py").write_text(
            f"from {package}.registry import R\nR.register('{name}')(lambda: '{name}')\n"
        )
    assert registry.get("beta")() == "beta"
    assert f"{package}.slow" not in sys.modules
    assert f"{package}.one" not in sys.modules
    assert registry.names() == ["alpha", "beta", "slow"]
    assert registry.get("slow")() == "slow"


def test_a_file_of_the_name_need_not_hold_the_entry(package: str) -> None:
    registry = registry_of(package)
    folder = Path(sys.modules[package].__path__[0])
    (folder / "alpha.py").write_text("")
    assert registry.get("alpha")() == 1


def test_a_name_is_registered_once(package: str) -> None:
    registry = registry_of(package)
    registry.names()
    with pytest.raises(RuntimeError, match="registered twice"):
        registry.register("alpha")(object())


class Distribution:
    """Distribution of an entry point."""

    def __init__(self, name: str, version: str) -> None:
        self.name = name
        self.version = version


@pytest.fixture
def plug_in(package: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Registry]:
    """Return a registry to which distributions add entries: (name, value, distribution)."""

    def make(*offers: tuple[str, str, str]) -> Registry:
        points = [
            EntryPoint(name, value, "crkd.things")._for(Distribution(owner, "1.2"))
            for name, value, owner in offers
        ]

        def entry_points(*, group: str) -> list[EntryPoint]:
            return [point for point in points if point.group == group]

        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
        return Registry("thing", package, "crkd.things")

    return make


@pytest.fixture
def foreign(package: str, tmp_path: Path) -> str:
    """A module of a plug-in; importing it is seen in ``sys.modules``."""
    (tmp_path / "plugins_of_test_outside.py").write_text("def beta(): return 2\n")
    (tmp_path / "plugins_of_test_broken.py").write_text("raise OSError('no\\nlicense')\n")
    return "plugins_of_test_outside"


def own(registry: Registry) -> Registry:
    """Give a registry the entry "alpha" of its own."""
    registry.register("alpha")(object())
    return registry


def test_a_plug_in_is_listed_and_imported_only_when_it_is_asked_for(plug_in, foreign) -> None:
    registry = own(plug_in(("beta", f"{foreign}:beta", "things-beta")))
    assert registry.names() == ["alpha", "beta"]
    assert list(registry.loaded()) == ["alpha"]
    assert registry.plugin("beta") == Plugin("crkd.things", "beta", "things-beta", "1.2")
    assert registry.get("alpha") is registry.loaded()["alpha"]
    assert foreign not in sys.modules
    assert registry.get("beta")() == 2
    assert registry.get("beta") is registry.loaded()["beta"]
    assert registry.plugin("alpha") is None
    assert registry.plugin("gamma") is None


def test_a_registry_without_a_group_takes_no_plug_in(package: str, plug_in, foreign) -> None:
    plug_in(("beta", f"{foreign}:beta", "things-beta"))
    assert registry_of(package).names() == ["alpha"]


def test_a_name_of_crkd_cannot_be_replaced(plug_in, foreign) -> None:
    offers = [(name, f"{foreign}:beta", "things-beta") for name in ("alpha", "beta")]
    registry = own(plug_in(*offers))
    with pytest.raises(InputError, match=r"things-beta 1\.2 claims the thing 'alpha'"):
        registry.get("alpha")
    assert registry.plugin("alpha") is None
    assert list(registry.loaded()) == ["alpha"]
    assert foreign not in sys.modules
    assert registry.get("beta")() == 2


def test_two_distributions_cannot_offer_one_name(plug_in, foreign) -> None:
    registry = plug_in(*[("beta", f"{foreign}:beta", owner) for owner in ("one", "other")])
    assert registry.names().count("beta") == 1
    with pytest.raises(InputError, match=r"'beta' is offered more than once.* one and other;"):
        registry.get("beta")
    assert foreign not in sys.modules


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("plugins_of_test_broken:beta", "OSError: no license"),
        ("plugins_of_test_absent:beta", "ModuleNotFoundError: No module named"),
        ("plugins_of_test_outside:nothing", "AttributeError: .*no attribute 'nothing'"),
    ],
)
def test_a_broken_plug_in_breaks_its_own_name_alone(plug_in, foreign, value, reason) -> None:
    sound = ("beta", f"{foreign}:beta", "things-beta")
    registry = own(plug_in(sound, ("broken", value, "things-broken")))
    assert registry.names() == ["alpha", "beta", "broken"]
    assert registry.get("beta")() == 2
    for _ in range(2):
        with pytest.raises(
            InputError, match=rf"'broken' .*things-broken 1\.2 .*\({reason}"
        ) as error:
            registry.get("broken")
        assert "\n" not in str(error.value)
        assert value in str(error.value)
    assert list(registry.loaded()) == ["alpha", "beta"]


def test_an_unknown_name_is_compared_with_plug_ins_too(plug_in, foreign) -> None:
    with pytest.raises(InputError, match=r"did you mean 'beta'\?"):
        plug_in(("beta", f"{foreign}:beta", "things-beta")).get("betta")
    assert foreign not in sys.modules
