"""Verbs of the command line: one module for each ``crkd VERB``, and for ``tools/VERB.py``.

A module of a verb has a text ``DESCRIPTION``, a function ``add_arguments(parser)`` and a function
``run(given)`` that returns the exit code.
"""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.commands.flags import config_of
    from crkd.commands.verbs import Parser
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "flags": "config_of",
            "verbs": "Parser",
        },
    )

__all__ = ["Parser", "config_of"]
