"""Completion scripts, the one for bash as bash runs it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from crkd.commands.completion import script
from crkd.commands.main import main
from crkd.commands.verbs import VERBS, parsers
from crkd.config.load import FOLDERS, shipped_configs
from crkd.data.splits.class_split import DEFAULT_SPLITS

LINES = {
    "verbs": ["crkd", ""],
    "some verbs": ["crkd", "re"],
    "flags": ["crkd", "discover", "--"],
    "no positional": ["crkd", "pretrain", ""],
    "some flags": ["crkd", "discover", "--dataset", "digits", "--num"],
    "configurations": ["crkd", "discover", "--config", ""],
    "some configurations": ["crkd", "baseline", "uno", "--config", "fine"],
    "data sets": ["crkd", "discover", "--dataset", ""],
    "choices": ["crkd", "export", "RUN", "--format", ""],
    "positional": ["crkd", "baseline", "k"],
    "files after a flag": ["crkd", "discover", "--from", ""],
    "files": ["crkd", "evaluate", ""],
    "unknown verb": ["crkd", "nothing", "--"],
}
BASH = shutil.which("bash")


@pytest.fixture(scope="module")
def completed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Return what bash offers for the last word of each line."""
    if BASH is None:
        pytest.skip("there is no bash")
    file = tmp_path_factory.mktemp("completion") / "crkd.bash"
    file.write_text(script("bash"))
    asked = [f"source {file}", "complete -p crkd"]
    for words in LINES.values():
        quoted = " ".join(f"'{word}'" for word in words)
        asked.append(f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; COMPREPLY=(); _crkd")
        asked.append('echo "${COMPREPLY[*]}"')
    done = subprocess.run(
        [BASH, "--norc", "-u", "-c", "\n".join(asked)], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    first, *found = done.stdout.splitlines()
    assert first == "complete -o default -F _crkd crkd"
    return {name: line.split() for name, line in zip(LINES, found, strict=True)}


def test_verbs(completed: dict[str, list[str]]) -> None:
    assert completed["verbs"] == [*VERBS, "--help", "--version"]
    assert completed["some verbs"] == ["reproduce", "review"]


def test_flags_of_a_verb(completed: dict[str, list[str]]) -> None:
    actions = parsers("discover")[1]["discover"]._actions
    flags = {flag for action in actions for flag in action.option_strings if flag[:2] == "--"}
    assert {"--features", "--decisions", "--config"} <= flags
    assert set(completed["flags"]) == flags
    assert completed["some flags"] == ["--num-novel"]
    assert "--resume" in completed["no positional"]


def test_names_of_shipped_configurations(completed: dict[str, list[str]]) -> None:
    names = {path.stem for folder in FOLDERS for path in shipped_configs(folder)}
    assert completed["configurations"] == sorted(names)
    assert completed["some configurations"] == ["fine-grained"]


def test_names_of_data_sets(completed: dict[str, list[str]]) -> None:
    assert completed["data sets"] == sorted(DEFAULT_SPLITS)
    assert {"digits", "imagenet-100", "herbarium-19"} <= set(completed["data sets"])


def test_choices(completed: dict[str, list[str]]) -> None:
    assert completed["choices"] == ["onnx", "torch", "labelstudio", "fiftyone", "atlas"]
    assert completed["positional"] == ["kmeans"]


def test_file_names_are_left_to_the_shell(completed: dict[str, list[str]]) -> None:
    assert completed["files"] == completed["files after a flag"] == completed["unknown verb"] == []


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_script_is_valid_for_its_shell(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert text == script(shell)
    assert all(f"'{verb} -'*)" in text for verb in VERBS)
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell}")
    file = tmp_path / shell
    file.write_text(text)
    subprocess.run([program, "-n", file], check=True)
