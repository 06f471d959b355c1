"""Print requirements with the lower bound of every direct dependency.

The bounds are those of ``pyproject.toml``, so that what it promises is what is tested::

    python tests/constraints/oldest.py > oldest.txt
    pip install --requirement oldest.txt --editable .
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
# The tools that judge the code and build the pages; nobody needs an old version of them.
TOOLS = {"ruff", "mypy", "pre-commit", "sphinx", "myst-parser", "furo"}
# Each version of PyTorch brings the one version of Triton that it works with.
LEFT_OUT = {"triton"}


def oldest(requirements: list[str]) -> list[str]:
    """Return "name==version" for each requirement with a lower bound, and the others as they are.

    >>> oldest(["torch>=2.9", "cuda-core>=0.4; sys_platform == 'linux'", "ruff>=0.6"])
    ['torch==2.9', "cuda-core==0.4; sys_platform == 'linux'", 'ruff>=0.6']
    """
    found = []
    for requirement in requirements:
        name = re.split(r"[\[>;]", requirement)[0]
        bound = re.fullmatch(r"[\w.-]+>=([\w.]+)(;.*)?", requirement)
        if name in LEFT_OUT | {"crkd"}:
            continue
        pinned = bound and name not in TOOLS
        found.append(f"{name}=={bound[1]}{bound[2] or ''}" if bound and pinned else requirement)
    return found


def main() -> None:
    """Print the lines."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    lines = oldest([*project["dependencies"], *extras["dev"], *extras["docs"]])
    sys.stdout.write("".join(f"{line}\n" for line in dict.fromkeys(lines)))


if __name__ == "__main__":
    main()
