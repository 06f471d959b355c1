"""Run folders on disk: reading, writing, finding and describing them."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.runs.calibration import read_calibration, write_calibration
    from crkd.runs.folder import RunFolder, RunInfo
    from crkd.runs.load import OpenedRun, open_image_run, open_run
    from crkd.runs.provenance import command_line, git_commit, versions
    from crkd.runs.search import find_stage1, runs_below
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "calibration": "read_calibration write_calibration",
            "folder": "RunFolder RunInfo",
            "load": "OpenedRun open_image_run open_run",
            "provenance": "command_line git_commit versions",
            "search": "find_stage1 runs_below",
        },
    )

__all__ = [
    "OpenedRun",
    "RunFolder",
    "RunInfo",
    "command_line",
    "find_stage1",
    "git_commit",
    "open_image_run",
    "open_run",
    "read_calibration",
    "runs_below",
    "versions",
    "write_calibration",
]
