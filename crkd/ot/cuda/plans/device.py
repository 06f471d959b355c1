"""Properties of a device that determine the layouts."""

from __future__ import annotations

from typing import NamedTuple


class Device(NamedTuple):
    """Properties of a device that determine the layout.

    Attributes:
        architecture: compute capability, 10 * major + minor.
        shared_bytes: maximum dynamic shared memory of one block.
        largest_cluster: maximum number of blocks of a cluster; 1 without clusters.
        multiprocessors: number of multiprocessors.
    """

    architecture: int
    shared_bytes: int
    largest_cluster: int
    multiprocessors: int
