"""The state of a watch on disk: what was predicted, and the outliers.

Three files only grow. For each batch of images, the features of the outliers are written first,
then the predictions, then the sizes and times of the files. A process can be killed at any
moment: an image without a line of predictions is predicted again, and one with a line is not.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from crkd.clustering.kmeans import Floats
from crkd.core.atomic_write import clear_unfinished
from crkd.core.errors import InputError
from crkd.inference.table import PredictedImage
from crkd.runs.appended_lines import AppendedLines
from crkd.runs.atomic_files import MAX_JSON_OF_IMAGES, read_json, write_json
from crkd.runs.folder import RunFolder
from crkd.runs.skipped_files import list_skipped

PREDICTIONS: Final = "predictions.jsonl"
FEATURES: Final = "outlier-features.jsonl"
FILES: Final = "files.jsonl"
SKIPPED: Final = "skipped.csv"
_DESCRIPTION: Final = "watch.json"
_WAITING: Final = "waiting.json"

Stamp = tuple[int, int]
"""Size in bytes and time of the last change in nanoseconds of a file."""


@dataclass(frozen=True)
class WatchedImage:
    """One image with a prediction.

    Attributes:
        file: path below the watched folder, as the file system has it.
        digest: SHA-256 of the content.
        row: the prediction.
        features: ``(k,)`` float32 of an outlier; None for other images.
    """

    file: str
    digest: str
    row: PredictedImage
    features: Floats | None


@dataclass(frozen=True)
class Outlier:
    """An image that fits none of the classes.

    Attributes:
        file: path below the watched folder.
        digest: SHA-256 of the content.
        nearest: name of the predicted class.
        features: ``(k,)`` float32.
    """

    file: str
    digest: str
    nearest: str
    features: Floats


class WatchState:
    """Content of a state folder; the watcher holds its lock.

    Args:
        folder: the state folder; it exists.
        run: the run that predicts.
        images: the watched folder.

    Attributes:
        outliers: for each file whose newest content is an outlier, in the order of prediction.

    Raises:
        InputError: the state is of another run or folder, or a file is damaged.
    """

    def __init__(self, folder: Path, run: RunFolder, images: Path) -> None:
        self.folder, self.images = folder, images
        self._predictions = AppendedLines(folder / PREDICTIONS)
        self._features = AppendedLines(folder / FEATURES)
        self._files = AppendedLines(folder / FILES)
        self._check_description(run)
        clear_unfinished(folder)
        self._digests: dict[str, str] = {}
        self.outliers: dict[str, Outlier] = {}
        self._stamps: dict[str, Stamp] = {}
        self._unreadable: dict[str, str] = {}
        self._waiting: dict[str, Stamp] = {}
        self._listed: dict[str, str] | None = None
        try:
            self._read()
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"a file in --state {folder} has an unexpected form ({error!r}); restore it, or "
                "name another --state"
            ) from None

    @property
    def num_images(self) -> int:
        """Number of files with a prediction."""
        return len(self._digests)

    @property
    def num_skipped(self) -> int:
        """Number of files that the last pass listed as unreadable."""
        return len(self._listed or {})

    def is_done(self, file: str, stamp: Stamp) -> bool:
        """Return whether a file was predicted or skipped and did not change since."""
        return self._stamps.get(file) == stamp

    def is_predicted(self, file: str, digest: str) -> bool:
        """Return whether there is a prediction for this content of a file."""
        return self._digests.get(file) == digest

    def was_waiting(self, file: str, stamp: Stamp) -> bool:
        """Return whether the last pass left the file for later, and it is unchanged since."""
        return self._waiting.get(file) == stamp

    def add(
        self,
        images: list[WatchedImage],
        stamps: Mapping[str, Stamp],
        unreadable: Mapping[str, str],
    ) -> None:
        """Write a batch.

        Args:
            images: new predictions.
            stamps: of all files of the batch that are done.
            unreadable: reason for each of them that cannot be read.

        Raises:
            InputError: a file cannot be written.
        """
        self._features.append(
            [
                {"file": i.file, "digest": i.digest, "features": _encoded(i.features)}
                for i in images
                if i.features is not None
            ]
        )
        self._predictions.append(
            [{"file": i.file, "digest": i.digest, **dataclasses.asdict(i.row)} for i in images]
        )
        self._files.append(
            [
                {"file": file, "size": size, "time": time, "unreadable": unreadable.get(file)}
                for file, (size, time) in stamps.items()
            ]
        )
        for image in images:
            self._take(image.file, image.digest, image.row.class_name, image.features)
        for file, stamp in stamps.items():
            self._finish(file, stamp, unreadable.get(file))

    def end_pass(self, waiting: dict[str, Stamp], shown: Mapping[str, str]) -> None:
        """Write what is left for the next pass, and the list of files that cannot be read.

        Args:
            waiting: files that may be incomplete.
            shown: path to show for each unreadable file that still exists.
        """
        if waiting != self._waiting:
            self._waiting = waiting
            write_json(self.folder / _WAITING, waiting)
        skipped = {shown[file]: why for file, why in self._unreadable.items() if file in shown}
        if skipped != self._listed:
            self._listed = skipped
            list_skipped(self.folder / SKIPPED, skipped)

    def _read(self) -> None:
        features = {
            (line["file"], line["digest"]): line["features"] for line in self._features.read()
        }
        for line in self._predictions.read():
            encoded = features.get((line["file"], line["digest"])) if line["outlier"] else None
            vector = None if encoded is None else _decoded(encoded)
            self._take(line["file"], line["digest"], line["class_name"], vector)
        for line in self._files.read():
            self._finish(line["file"], (line["size"], line["time"]), line["unreadable"])
        path = self.folder / _WAITING
        values = _read_block(path) if path.is_file() else {}
        self._waiting = {file: (int(size), int(time)) for file, (size, time) in values.items()}

    def _take(self, file: str, digest: str, nearest: str, features: Floats | None) -> None:
        self._digests[file] = digest
        self.outliers.pop(file, None)
        if features is not None:
            self.outliers[file] = Outlier(file, digest, nearest, features)

    def _finish(self, file: str, stamp: Stamp, unreadable: str | None) -> None:
        self._stamps[file] = stamp
        self._unreadable.pop(file, None)
        if unreadable is not None:
            self._unreadable[file] = unreadable

    def _check_description(self, run: RunFolder) -> None:
        """Compare the run and the folder with those of the state; a new state gets them."""
        path = self.folder / _DESCRIPTION
        info = run.read_info()
        names = "\n".join(entry.name for entry in info.classes)
        wanted = {
            "run": str(run.path.absolute()),
            "model_sha256": info.model_sha256,
            "class_names": hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest(),
            "images": str(self.images.absolute()),
        }
        if not path.is_file():
            if any(self.folder.glob("[!.]*")):
                raise InputError(
                    f"--state {self.folder} holds other files; name a new or an empty folder"
                )
            write_json(path, wanted)
            return
        before = _read_block(path)
        if any(before.get(key) != wanted[key] for key in ("model_sha256", "class_names")):
            raise InputError(
                f"--state {self.folder} was made with another run ({before.get('run')}), and "
                f"--run {run.path} has other classes or weights; name another --state"
            )
        if before.get("images") != wanted["images"]:
            raise InputError(
                f"--state {self.folder} is of the images in {before.get('images')}, not of "
                f"{self.images}; name another --state"
            )


def _read_block(path: Path) -> dict[str, Any]:
    values = read_json(path, MAX_JSON_OF_IMAGES)
    if not isinstance(values, dict):
        raise InputError(
            f"{path} in --state holds {values!r:.40} and no block of keys; restore it, or name "
            "another --state"
        )
    return values


def _encoded(features: Floats) -> str:
    return base64.b64encode(np.asarray(features, "<f4").tobytes()).decode()


def _decoded(text: str) -> Floats:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)
