"""Layouts of a problem of N samples and M classes on the device.

The order of every sum depends only on N, M and the kind of device, so no bit of a result depends on
the other problems. Their number decides only whether two of them share a multiprocessor.
"""

from crkd.ot.cuda.plans.device import Device
from crkd.ot.cuda.plans.persistent import Persistent, persistent, persistent_layout
from crkd.ot.cuda.plans.resident import (
    Resident,
    lanes_per_row,
    resident,
    resident_layout,
    two_per_multiprocessor,
)
from crkd.ot.cuda.plans.streaming import LARGEST_M, Streaming, streaming

__all__ = [
    "LARGEST_M",
    "Device",
    "Persistent",
    "Resident",
    "Streaming",
    "lanes_per_row",
    "persistent",
    "persistent_layout",
    "resident",
    "resident_layout",
    "streaming",
    "two_per_multiprocessor",
]
