"""Layouts of a problem of N samples and M classes on the device.

A layout depends only on N, M and the kind of device, never on the number of problems. The order of
every sum, and so every bit of a result, does not depend on the other problems.
"""

from crkd.ot.cuda.plans.device import Device
from crkd.ot.cuda.plans.persistent import Persistent, persistent, persistent_layout
from crkd.ot.cuda.plans.resident import (
    Resident,
    lanes_of_a_row,
    resident,
    resident_layout,
    twice_on_a_processor,
)
from crkd.ot.cuda.plans.streaming import LARGEST_M, Streaming, streaming

__all__ = [
    "LARGEST_M",
    "Device",
    "Persistent",
    "Resident",
    "Streaming",
    "lanes_of_a_row",
    "persistent",
    "persistent_layout",
    "resident",
    "resident_layout",
    "streaming",
    "twice_on_a_processor",
]
