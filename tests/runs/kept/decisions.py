"""Decisions for the kept discovery: ``python tests/runs/kept/decisions.py RUN FILE``.

The first novel class gets a name, the third is merged into the second, the fourth is rejected.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from crkd.review.decisions import FORMAT, VERSION
from crkd.review.run_outputs import gather
from crkd.runs.folder import RunFolder


def main(run: Path, file: Path) -> None:
    """Write the file."""
    info = RunFolder.open(run).read_info()
    novel = [number for number, entry in enumerate(info.classes) if entry.is_novel]
    classes = [
        {"id": novel[0], "action": "accept", "name": "round one"},
        {"id": novel[1], "action": "accept", "name": "narrow one"},
        {"id": novel[2], "action": "merge", "into": novel[1]},
        {"id": novel[3], "action": "reject"},
    ]
    content = {
        "format": FORMAT,
        "version": VERSION,
        "model_sha256": info.model_sha256,
        "shown_sha256": gather(run, torch.device("cpu")).shown_sha256,
        "classes": classes,
        "images": [],
    }
    file.write_text(json.dumps(content))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
