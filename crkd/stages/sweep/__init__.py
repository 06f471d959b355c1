"""Grids of configurations and seeds: the file, the runs, and the processes that make them."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.stages.sweep.file import Sweep, load_sweep
    from crkd.stages.sweep.run import run_sweep
else:
    __getattr__, __dir__ = lazy_exports(__name__, {"file": "Sweep load_sweep", "run": "run_sweep"})

__all__ = ["Sweep", "load_sweep", "run_sweep"]
