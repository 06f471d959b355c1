"""Print a constraints file with the lower bound of every direct dependency.

The bounds are those of ``pyproject.toml``, so that what it promises is what is tested::

    python tests/constraints/oldest.py > oldest.txt
    pip install --constraint oldest.txt --editable ".[dev]"
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
# The tools that judge the code and build the pages; the tests use them in one version only.
TOOLS = {"ruff", "mypy", "pre-commit", "sphinx", "myst-parser", "furo"}


def oldest(requirements: list[str]) -> list[str]:
    """Return "name==version" for each requirement with a lower bound.

    >>> oldest(["torch>=2.9", "cuda-core>=0.4; sys_platform == 'linux'", "types-PyYAML"])
    ['torch==2.9', "cuda-core==0.4; sys_platform == 'linux'"]
    """
    found = []
    for requirement in requirements:
        match = re.match(r"([\w.-]+)>=([\w.]+)(?:,[^;]*)?(;.*)?$", requirement)
        if match and match[1] not in TOOLS:
            found.append(f"{match[1]}=={match[2]}{match[3] or ''}")
    return found


def main() -> None:
    """Print the lines."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    lines = oldest([*project["dependencies"], *extras["dev"]])
    sys.stdout.write("".join(f"{line}\n" for line in dict.fromkeys(lines)))


if __name__ == "__main__":
    main()
