"""Parsers of the verbs: help texts, groups, versions and unknown verbs."""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import crkd
from crkd.commands.flags import add_config_flags, config_of, config_words
from crkd.commands.main import SPINS, limit_spinning, main, run_verb
from crkd.commands.verbs import GROUPS, VERBS, command_module, parsers
from crkd.config.load import shipped_configs
from tests.support import ROOT

HEAVY = {"torch", "torchvision", "faiss", "ot", "matplotlib", "sklearn", "scipy", "pyarrow", "timm"}


def python(*words: str | Path, cwd: Path = ROOT) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=True,
        env=environment,
    )
    return done.stdout


def ends_well(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run ``crkd`` with arguments on which argparse exits with 0; return the output."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_wait_actively_for_a_short_time(
    given: dict[str, str], spins: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    limit_spinning()
    assert os.environ.pop("GOMP_SPINCOUNT", None) == spins


def test_help_shows_every_verb_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    said = ends_well(["--help"], capsys)
    for title, verbs in GROUPS.items():
        lines = said.split(f"\n{title}:\n")[1].split("\n\n")[0].splitlines()
        assert [line.split(maxsplit=1) for line in lines] == [list(pair) for pair in verbs.items()]
    assert max(map(len, said.splitlines())) <= 80


def test_without_a_verb_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Train:\n  pretrain " in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--version"], ["discover", "--version"]])
def test_version(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ends_well(arguments, capsys) == f"crkd {crkd.__version__}\n"


@pytest.mark.parametrize(
    ("verb", "message"),
    [
        ("discovr", "unknown verb 'discovr' (did you mean discover?); crkd --help lists all verbs"),
        ("pre", "unknown verb 'pre' (did you mean predict or compare?); crkd --help"),
        ("zzz", "unknown verb 'zzz'; crkd --help lists all verbs"),
    ],
)
def test_an_unknown_verb(verb: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"crkd: {message}")


def test_a_verb_with_underscores(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends_well(["check_data", "--help"], capsys).startswith("usage: crkd check-data ")


def test_an_unknown_flag_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--verbose", "evaluate", "x"], ["evaluate", "x", "--verbose"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert "--verbose" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = ends_well([verb, "--help"], capsys)
    module = command_module(verb)
    assert said.startswith(f"usage: crkd {verb} ")
    assert f"\n\n{module.DESCRIPTION}" in said
    assert max(map(len, said.splitlines())) <= 80
    with pytest.raises(SystemExit):
        run_verb(verb, ["--help"])
    assert capsys.readouterr().out == said, "tools/VERB.py says the same"


@pytest.mark.parametrize("verb", VERBS)
def test_every_argument_has_a_help_text(verb: str) -> None:
    actions = parsers(verb)[1][verb]._actions
    assert not [action.dest for action in actions if not action.help]


@pytest.mark.parametrize("verb", VERBS)
def test_examples_in_the_description_are_valid(verb: str) -> None:
    text = command_module(verb).DESCRIPTION.replace("\\\n", " ")
    for line in re.findall(r"^  (crkd .*)", text, re.MULTILINE):
        _, called, *words = line.split()
        parsers(called)[1][called].parse_args(words)


def test_modules_of_verbs_have_one_shape() -> None:
    """``DESCRIPTION``, ``add_arguments(parser)`` and ``run(given)``; nothing else parses."""
    for verb in VERBS:
        tree = ast.parse(Path(command_module(verb).__file__ or "").read_text())
        functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        names = {
            name: [argument.arg for argument in functions[name].args.args]
            for name in ("add_arguments", "run")
        }
        assert names == {"add_arguments": ["parser"], "run": ["given"]}, verb
        called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert "parse_args" not in called, verb


def test_every_verb_has_a_tool() -> None:
    tools = {file.stem.replace("_", "-") for file in (ROOT / "tools").glob("*.py")}
    assert tools == set(VERBS) - {"completion"}, "which completes the installed crkd"


def test_a_tool_is_its_verb(tmp_path: Path) -> None:
    said = python(ROOT / "tools" / "check_data.py", "--help", cwd=tmp_path)
    assert said == python("-m", "crkd.commands.main", "check-data", "--help", cwd=tmp_path)


def test_parsers_import_no_heavy_library() -> None:
    """The parsers of all verbs; ``crkd --help`` imports the module of none."""
    program = (
        "import json, sys, crkd.commands.main;"
        "from crkd.commands.verbs import parsers, VERBS;"
        "parsers()[0].format_help();"
        "verbs = [v for v in VERBS if 'crkd.commands.' + v.replace('-', '_') in sys.modules];"
        "[parser.format_help() for parser in parsers(*VERBS)[1].values()];"
        f"print(verbs, sorted({HEAVY!r} & set(sys.modules)))"
    )
    assert python("-c", program) == "[] []\n"


@pytest.mark.parametrize("verb", ["pretrain", "discover", "baseline"])
def test_help_lists_the_shipped_configurations(verb: str) -> None:
    said = parsers(verb)[1][verb].format_help().split("shipped configurations")[1]
    listed = dict(re.findall(r"  (\w+): +([^:]*)(?:\n|$)", said))
    for folder in ("presets", "datasets", "experiments"):
        names = {path.stem for path in shipped_configs(folder)}
        assert set(re.split(r",\s+", listed[folder].strip())) == names


def config_arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out")
    add_config_flags(parser)
    return parser.parse_args(words)


def test_flags_as_words_give_the_same_configuration() -> None:
    words = [
        *("--config", "digits", "--set", "seed=1", "--set", "pretrain.epochs=2", "--split", "4-6"),
        *("--num-novel", "3", "--mixed", "--image-size", "16"),
    ]
    given = config_arguments("--out", "x", *words)
    assert config_words(given) == words
    assert config_of(config_arguments(*config_words(given))) == config_of(given)
    assert config_words(config_arguments()) == []


def test_values_of_a_verb_reach_the_configuration_as_they_are() -> None:
    files = ["a: b.parquet", "[c].parquet"]
    more = {"dataset": "features", "data": {"features": files}}
    config = config_of(config_arguments("--data-root", "elsewhere"), more=more)
    assert config.data.features == tuple(files)
    assert (config.dataset, config.data.root) == ("features", "elsewhere")


def test_messages_name_verbs_and_not_scripts() -> None:
    found = [
        str(file)
        for file in (ROOT / "crkd").rglob("*.py")
        if "python tools/" in (text := file.read_text()) or "tools/pretrain" in text
    ]
    assert not found
