"""Files of compressed soft labels: one for each stored epoch, and an index with their SHA-256."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from crkd.core.errors import InputError
from crkd.runs.atomic_files import load_tensors, read_json, save_tensors, write_json

FOLDER = "teacher_labels"
INDEX = "labels.json"


class LabelStore:
    """The labels of some epochs, all made by one teacher on views drawn in one way.

    ``labels.json``, the index, holds the ``origin`` and the SHA-256 of every whole file. A file is
    written atomically before its entry in the index: a file without an entry is unfinished.

    Args:
        folder: of the files; the first :meth:`write` makes it.
        origin: everything that the labels depend on, as plain JSON values.

    Raises:
        InputError: the folder holds labels of another origin, or its index is damaged.
    """

    def __init__(self, folder: Path, origin: dict[str, Any]) -> None:
        self.folder = folder
        # As it reads when it comes back from a file: tuples are lists.
        self._origin = json.loads(json.dumps(origin))
        self._digests: dict[str, str] = {}
        index = folder / INDEX
        if not index.exists():
            return
        saved = read_json(index)
        if not (
            isinstance(saved, dict)
            and isinstance(saved.get("origin"), dict)
            and isinstance(saved.get("files"), dict)
            and all(isinstance(digest, str) for digest in saved["files"].values())
        ):
            raise InputError(f"{index} is damaged; delete {folder} to have the labels made again")
        before = saved["origin"]
        keys = sorted(before | self._origin)
        other = [key for key in keys if before.get(key) != self._origin.get(key)]
        if other:
            raise InputError(
                f"{folder} holds a teacher's labels of another origin (different: "
                f"{', '.join(other)}); delete it, or use the settings that made it"
            )
        self._digests = saved["files"]

    def __contains__(self, epoch: int) -> bool:
        return self._name(epoch) in self._digests

    def write(self, epoch: int, record: dict[str, Tensor]) -> None:
        """Keep the labels of an epoch.

        Raises:
            InputError: the folder cannot be written.
        """
        name = self._name(epoch)
        self._digests[name] = save_tensors(self.folder / name, record, {"epoch": epoch})
        write_json(self.folder / INDEX, {"origin": self._origin, "files": self._digests})

    def read(self, epoch: int) -> dict[str, Tensor]:
        """Return the labels of an epoch that was written.

        Raises:
            InputError: the file is missing or not what was written.
        """
        name = self._name(epoch)
        try:
            return load_tensors(self.folder / name, self._digests[name])[0]
        except InputError as error:
            raise InputError(
                f"{error} or delete {self.folder} to have the labels made again"
            ) from None

    @staticmethod
    def _name(epoch: int) -> str:
        return f"epoch-{epoch:04d}.safetensors"
