"""Types, registry and errors that all other packages use."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.core.batch_shard import BatchShard
    from crkd.core.device import device_name, pick_device
    from crkd.core.errors import InputError
    from crkd.core.registry import Registry
    from crkd.core.seeding import seeded
    from crkd.core.types import Batch, HeadOutputs
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "batch_shard": "BatchShard",
            "device": "device_name pick_device",
            "errors": "InputError",
            "registry": "Registry",
            "seeding": "seeded",
            "types": "Batch HeadOutputs",
        },
    )

__all__ = [
    "Batch",
    "BatchShard",
    "HeadOutputs",
    "InputError",
    "Registry",
    "device_name",
    "pick_device",
    "seeded",
]
