"""Outputs of a model on many samples, of which no more is kept than is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd.core.device import pick_device
from crkd.data.sources.arrays import ArraySource
from crkd.estimator.checking import Samples
from crkd.estimator.image_model import ImageModel
from crkd.estimator.vector_model import VectorModel
from crkd.stages.forward import Outputs

Model = VectorModel | ImageModel


def outputs_of(model: Model, samples: Samples, device: str) -> Iterator[Outputs]:
    """Yield the outputs of a model for samples, in their order.

    Those of vectors come batch by batch: their features, float64 in all spaces, are larger than the
    vectors. Images come at once.

    Args:
        model: of vectors or of images.
        samples: of the same kind.
        device: of the network of images; see :func:`~crkd.core.device.pick_device`.
    """
    if isinstance(model, VectorModel):
        assert not isinstance(samples, ArraySource)
        yield from model.batches(samples)
    else:
        assert isinstance(samples, ArraySource)
        yield model.outputs(samples, pick_device(device))


def joint_logits(outputs: Outputs) -> NDArray[Any]:
    """Return the logits of all outputs of a model, known classes first, ``(n, O)``."""
    return outputs.joint_logits(0) if len(outputs.novel_logits) else outputs.known_logits


def logits_and_embedding(
    model: Model, samples: Samples, device: str, dtype: type[np.floating]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return joint logits ``(n, O)`` and the embedding ``(n, P)`` of this type."""
    embedding = np.empty((len(samples), model.width), dtype)
    logits, done = [], 0
    for outputs in outputs_of(model, samples, device):
        logits.append(joint_logits(outputs))
        rows = slice(done, done + len(logits[-1]))
        embedding[rows] = model.embedding(outputs)
        done = rows.stop
    return np.concatenate(logits), embedding
