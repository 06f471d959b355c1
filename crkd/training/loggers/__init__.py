"""Loggers of training metrics, one file for each kind."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.training.loggers.base import LOGS, Logs, LogWriter, check_logs, open_logs
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "base": "LOGS LogWriter Logs check_logs open_logs",
        },
    )

__all__ = ["LOGS", "LogWriter", "Logs", "check_logs", "open_logs"]
