"""Write ``lite0.npy`` for the sweep recipe-changes: vectors of the images of CIFAR-100 10-10.

Run it as ``python -m benchmarks.teacher_vectors``. Rows of other images are zero.
"""

from __future__ import annotations

import numpy as np

from crkd.config.load import load_config, shipped_config
from crkd.core.device import pick_device
from crkd.embedding.in_memory import embed_images
from crkd.stages.run_data import prepare


def main() -> None:
    """Embed the training images of known and novel classes."""
    data = prepare(load_config(shipped_config("cifar100-10-10-fast")), pick_device("cpu"))
    vectors = np.zeros((len(data.dataset.train), 1280), np.float32)
    for subset in (data.subsets.known_train, data.subsets.unlabeled):
        store = data.store(subset)
        assert store is not None
        (images,) = store.batches([np.arange(len(subset))])
        pixels = np.ascontiguousarray(np.asarray(images).transpose(0, 2, 3, 1))
        vectors[subset.indices] = embed_images(list(pixels))
    np.save("lite0.npy", vectors)


if __name__ == "__main__":
    main()
