"""The documentation site builds, and no link of it leads nowhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

DOCS = ROOT / "docs"

pytest.importorskip("sphinx", reason="sphinx is not installed")


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(source), str(out)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    built = build(DOCS, tmp_path)
    assert built.returncode == 0, built.stderr
    pages = {file.stem for file in tmp_path.glob("*.html")} - {"genindex", "search", "py-modindex"}
    assert pages == {file.stem for file in DOCS.glob("*.md")}
    assert "crkd.ot.sinkhorn.sinkhorn" in (tmp_path / "api.html").read_text()


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    (source / "conf.py").write_text((DOCS / "conf.py").read_text())
    (source / "index.md").write_text("# x\n\n[missing](missing.md), [nowhere](#nowhere)\n")
    built = build(source, tmp_path / "site")
    assert built.returncode != 0
    assert "'missing.md'" in built.stderr
    assert "'nowhere'" in built.stderr


def test_links_of_the_pages_outside_the_site_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), (page, target)


def test_the_picture_is_what_its_script_draws() -> None:
    scope: dict[str, object] = {"__name__": "data_flow"}
    exec((DOCS / "images" / "data_flow.py").read_text(), scope)
    drawn = scope["figure"]()  # type: ignore[operator]
    assert drawn == (DOCS / "images" / "data-flow.svg").read_text(encoding="utf-8")
