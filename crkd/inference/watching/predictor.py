"""Predictions of a run on encoded images in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch

from crkd.clustering.kmeans import Floats
from crkd.core.errors import InputError
from crkd.data.sources.base import Pixels
from crkd.data.sources.decode import decode_image
from crkd.data.storage.resize import fit_square
from crkd.data.vectors.store import VectorStore
from crkd.embedding.pipeline import pixels_of
from crkd.inference.rows import UNSURE, RowMaker
from crkd.inference.table import PredictedImage
from crkd.inference.vector_outputs import embedder_of, outputs_with_vectors
from crkd.inference.watching.class_space import class_space
from crkd.runs.load import OpenedRun
from crkd.stages.forward import Outputs, forward_batches, whole_images

BATCH_SIZE: Final = 16
"""Images of a forward pass. A smaller batch is filled up, so that the prediction of an image does
not depend on the number of images that came with it."""


class ImagePredictor:
    """Predicts encoded images with a run.

    Args:
        opened: the run.
        device: device of its network.

    Attributes:
        space: in which outliers are compared.

    Raises:
        InputError: the run has no outlier test, or it takes only files of vectors.
    """

    def __init__(self, opened: OpenedRun, device: torch.device) -> None:
        self._opened, self._device = opened, device
        self._embedder = None
        if opened.architecture.on_vectors:
            self._embedder = embedder_of(opened)
        self._maker = RowMaker(opened, UNSURE)
        self._check_outliers()
        self.space = class_space(opened)

    def pixels(self, content: bytes, where: str) -> Pixels:
        """Return an encoded image in the size that :meth:`predict` takes.

        Raises:
            UnreadableImageError: it cannot be decoded.
        """
        if self._embedder is not None:
            return pixels_of(content, where, self._embedder.backbone.preprocessing)
        return fit_square(decode_image(content, where), self._stored_size)

    def predict(
        self, paths: Sequence[Path], pixels: Sequence[Pixels]
    ) -> tuple[list[PredictedImage], Floats]:
        """Predict up to ``BATCH_SIZE`` images.

        Args:
            paths: files of the N images.
            pixels: of each, as :meth:`pixels` returns them.

        Returns:
            A row for each image, and their features ``(N, k)`` float32 in a space where the
            covariance within the classes is the identity.
        """
        outputs = self._outputs(np.stack(list(pixels))).rows(np.arange(len(paths)))
        return self._maker.rows(paths, outputs), self.space.rows(outputs.features)

    @property
    def _stored_size(self) -> int:
        size = int(self._opened.info.preprocessing["image_size"])
        return round(size * self._opened.config.data.stored_share)

    def _outputs(self, pixels: Pixels) -> Outputs:
        network = self._opened.network
        if self._embedder is not None:
            return outputs_with_vectors(self._opened, self._embedder(pixels))
        filled = np.zeros((BATCH_SIZE, *pixels.shape[1:]), np.uint8)
        filled[: len(pixels)] = pixels
        store = VectorStore(torch.from_numpy(filled).to(self._device))
        shape = self._opened.info.preprocessing
        prepare = whole_images(int(shape["image_size"]), shape["mean"], shape["std"])
        precision = self._opened.config.loop.precision
        rows = [np.arange(BATCH_SIZE)]
        return next(forward_batches(network, store, rows, prepare, precision=precision))

    def _check_outliers(self) -> None:
        size = self._stored_size
        black = np.zeros((1, 3, size, size), np.uint8)
        if self._embedder is not None:
            size = self._embedder.backbone.preprocessing.image_size
            black = np.zeros((1, size, size, 3), np.uint8)
        outputs = self._outputs(black).rows(np.arange(1))
        if self._maker.rows([Path("black")], outputs)[0].outlier is None:
            raise InputError(
                f"--run {self._opened.run.path} cannot tell images that fit none of its classes; "
                "discover the classes again, or use crkd predict"
            )
