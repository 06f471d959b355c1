"""The documentation site builds, and no link of it leads nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.forked import started

DOCS = ROOT / "docs"

pytest.importorskip("sphinx", reason="sphinx is not installed")


def sphinx(source: Path, out: Path, *more: str) -> int:
    from sphinx.cmd.build import main

    return main(["-W", "--keep-going", "-q", *more, str(source), str(out)])


def build(source: Path, out: Path, *more: str) -> tuple[int, str]:
    """Return the exit code and the output of a build in a fork, where torch is imported already."""
    said = out.with_suffix(".txt")
    process = started(sphinx, source, out, *more, output=said)
    process.join()
    assert process.exitcode is not None
    return process.exitcode, said.read_text()


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Pages in the plain theme; that of the site takes longer, and warns of nothing below."""
    site = tmp_path / "site"
    code, said = build(DOCS, site, "-D", "html_theme=basic")
    assert code == 0, said
    assert not said
    pages = {file.stem for file in site.glob("*.html")} - {"genindex", "search", "py-modindex"}
    assert pages == {file.stem for file in DOCS.glob("*.md")}
    assert "crkd.ot.sinkhorn.sinkhorn" in (site / "api.html").read_text()


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    (source / "conf.py").write_text((DOCS / "conf.py").read_text())
    (source / "index.md").write_text("# x\n\n[missing](missing.md), [nowhere](#nowhere)\n")
    code, said = build(source, tmp_path / "site")
    assert code != 0
    assert said.count("WARNING: ") == 2, said
    assert "'missing.md'" in said
    assert "'nowhere'" in said


def test_links_of_the_pages_outside_the_site_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), (page, target)


def test_the_picture_is_what_its_script_draws() -> None:
    scope: dict[str, object] = {"__name__": "data_flow"}
    exec((DOCS / "images" / "data_flow.py").read_text(), scope)
    drawn = scope["figure"]()  # type: ignore[operator]
    assert drawn == (DOCS / "images" / "data-flow.svg").read_text(encoding="utf-8")
