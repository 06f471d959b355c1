"""One file a verb; ``tools/VERB.py`` and the console command ``crkd VERB`` both call these."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.commands.flags import Parser, config_of
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "flags": "Parser config_of",
        },
    )

__all__ = ["Parser", "config_of"]
