"""Passes over a folder: new images are predicted once, and their outliers are grouped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch

from crkd.clustering.novelty.similar_outliers import outlier_groups
from crkd.core.errors import InputError
from crkd.core.paths import readable
from crkd.data.sources.base import Pixels, UnreadableImageError
from crkd.inference.watching.files import read_settled, stamp_of, watched_files
from crkd.inference.watching.predictor import BATCH_SIZE, ImagePredictor
from crkd.inference.watching.state import Outlier, Stamp, WatchedImage, WatchState
from crkd.runs.load import open_run
from crkd.runs.lock import locked

ENOUGH: Final = 20
"""Number of similar outliers that are worth a further step, unless the person says otherwise."""


@dataclass
class Pass:
    """Counts of one pass.

    Attributes:
        predicted: number of images that were predicted.
        outliers: number of those that fit none of the classes.
        unreadable: reason for each file that turned out to be unreadable.
        waiting: number of files that are incomplete or still change.
        complete: whether all files were looked at.
    """

    predicted: int = 0
    outliers: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    waiting: int = 0
    complete: bool = True


@dataclass
class _Batch:
    """Files that are read and wait for the prediction."""

    paths: list[Path] = field(default_factory=list)
    files: list[tuple[str, str]] = field(default_factory=list)
    pixels: list[Pixels] = field(default_factory=list)
    stamps: dict[str, Stamp] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


class Watcher:
    """Predicts the new images of a folder and keeps the results in a state folder.

    Args:
        state: the state folder's content.
        predictor: of the run.
        enough: smallest number of similar outliers that counts as a group, at least 2.
    """

    def __init__(self, state: WatchState, predictor: ImagePredictor, enough: int) -> None:
        self.state, self._predictor, self._enough = state, predictor, enough

    def look(self, stopped: Callable[[], bool] = lambda: False) -> Pass:
        """Predict all images that are new since the last pass.

        A file that changes while it is read is left for the next pass. So is a file that cannot be
        decoded, or does not end as its format requires, because it may be incomplete. If it is
        unchanged then, it is predicted, or listed as unreadable.

        Args:
            stopped: says between two images whether to end early.

        Raises:
            InputError: the state cannot be written.
        """
        done, batch = Pass(), _Batch()
        waiting: dict[str, Stamp] = {}
        present: dict[str, str] = {}
        for file, path, stamp in watched_files(self.state.images):
            if stopped():
                done.complete = False
                break
            present[file] = readable(path)
            if self.state.is_done(file, stamp):
                continue
            if not self._read(batch, file, path, stamp):
                waiting[file] = stamp
            elif len(batch.stamps) == BATCH_SIZE:
                self._finish(batch, done)
                batch = _Batch()
        self._finish(batch, done)
        done.waiting = len(waiting)
        if done.complete:
            self.state.end_pass(waiting, present)
        return done

    def groups(self) -> list[list[Outlier]]:
        """Return the groups of at least ``enough`` similar outliers, the largest first.

        Equal images count once. Files that were deleted or changed since do not count. The most
        typical image of a group is first.
        """
        found: dict[str, Outlier] = {}
        for outlier in self.state.outliers.values():
            stamp = stamp_of(self.state.images / outlier.file)
            if stamp is not None and self.state.is_done(outlier.file, stamp):
                found.setdefault(outlier.digest, outlier)
        outliers = list(found.values())
        if len(outliers) < self._enough:
            return []
        rows = np.stack([outlier.features for outlier in outliers])
        space = self._predictor.space
        groups = outlier_groups(rows, space.centers, farthest=space.farthest, least=self._enough)
        return [[outliers[n] for n in group.tolist()] for group in groups]

    def _read(self, batch: _Batch, file: str, path: Path, stamp: Stamp) -> bool:
        """Take a file into the batch; return False if it is left for the next pass."""
        content = read_settled(path, stamp)
        if content is None:
            return False
        settled = self.state.was_waiting(file, stamp)
        reason = content.reason
        if reason is None and not self.state.is_predicted(file, content.digest):
            if not (content.ends_well or settled):
                return False
            try:
                pixels = self._predictor.pixels(content.data, readable(path))
            except UnreadableImageError as error:
                reason = error.reason
            else:
                batch.paths.append(path)
                batch.files.append((file, content.digest))
                batch.pixels.append(pixels)
        if reason is not None:
            if not settled:
                return False
            batch.unreadable[file] = reason
        batch.stamps[file] = stamp
        return True

    def _finish(self, batch: _Batch, done: Pass) -> None:
        """Predict a batch and write it into the state."""
        images = []
        if batch.pixels:
            rows, features = self._predictor.predict(batch.paths, batch.pixels)
            for (file, digest), row, vector in zip(batch.files, rows, features, strict=True):
                images.append(WatchedImage(file, digest, row, vector if row.outlier else None))
        self.state.add(images, batch.stamps, batch.unreadable)
        done.predicted += len(images)
        done.outliers += sum(image.features is not None for image in images)
        folder = self.state.images
        done.unreadable |= {readable(folder / f): why for f, why in batch.unreadable.items()}


@contextlib.contextmanager
def watching(
    images: Path, run: str | Path, folder: Path, *, device: torch.device, enough: int = ENOUGH
) -> Iterator[Watcher]:
    """Open a run and a state folder, which is locked until the block ends.

    Args:
        images: folder of images, flat or nested.
        run: folder of a finished run.
        folder: the state folder; it is made where it is missing.
        device: device of the network.
        enough: smallest size of a group of outliers, at least 2.

    Raises:
        InputError: an argument is unusable, another process has the lock, or the state is of
            another run or folder.
    """
    images = images.absolute()
    if not images.is_dir():
        raise InputError(f"DIR {readable(images)!r} is not a folder; check the path")
    if enough < 2:
        raise InputError(f"--enough {enough} is below 2; {ENOUGH} is usual")
    inner, outer = folder.resolve(), images.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise InputError(
            f"--state {folder} and DIR {images} contain each other; name a --state outside of DIR"
        )
    opened = open_run(run, device)
    predictor = ImagePredictor(opened, device)
    with locked(folder, "--state"):
        yield Watcher(WatchState(folder, opened.run, images), predictor, enough)
