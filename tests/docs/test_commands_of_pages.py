"""Commands and examples in the documents do what the documents say."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from crkd.commands.verbs import parsers
from crkd.training.distributed import VERBS
from tests.support import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
WITH_EXAMPLES = [page for page in PAGES if ">>> " in page.read_text(encoding="utf-8")]


def fences(page: Path, *languages: str) -> Iterator[str]:
    for language, text in FENCE.findall(page.read_text(encoding="utf-8")):
        if language in languages:
            yield text


def commands(page: Path) -> Iterator[list[str]]:
    """Yield every call of a tool in the fences of a page, without comments."""
    for text in fences(page, "", "sh"):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True) if "tools/" in line else []
            place = next((n for n, w in enumerate(words) if w.startswith("tools/")), None)
            if place is not None:
                yield words[place:]


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.stem)
def test_examples_of_a_page_give_what_it_shows(page: Path) -> None:
    result = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_of_a_page_can_be_read_and_imports_what_there_is(page: Path) -> None:
    for text in fences(page, "python"):
        if ">>> " in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module[:4] == "crkd":
                module = importlib.import_module(node.module)
                assert not [alias.name for alias in node.names if not hasattr(module, alias.name)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_of_a_page_know_their_flags(page: Path) -> None:
    known: dict[str, str] = {}
    for tool, *words in commands(page):
        assert (ROOT / tool).is_file(), f"{page.name} calls {tool}"
        verb = Path(tool).stem
        if verb not in known:
            name = verb.replace("_", "-")
            known[verb] = parsers(name)[1][name].format_help()
        for word in words:
            flag = word.split("=")[0]
            if re.fullmatch(r"--[a-z-]+", flag):
                assert re.search(rf"{flag}\b(?!-)", known[verb]), f"{page.name}: {tool} {flag}"


def test_the_page_names_every_verb_for_several_processes() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    sentence = re.search(r"\n(`[^.]*`) support several processes\.", page)
    assert sentence is not None
    assert tuple(re.findall(r"`([a-z]+)`", sentence[1])) == VERBS
