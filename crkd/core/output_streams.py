"""Standard output and error of a command: closed pipes, full disks, encodings without a letter."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, TextIO

NAMES: Final = ("stdout", "stderr")


class _Output(io.FileIO):
    """A stream that accepts what it cannot write.

    Attributes:
        lost: the first error; None for a pipe whose reader (head, less) closed it.
    """

    lost: OSError | None = None

    def write(self, content: Any, /) -> int:
        """Write bytes; those that cannot be written count as written."""
        try:
            return super().write(content)
        except OSError as error:
            if error.errno != errno.EPIPE and self.lost is None:
                self.lost = error
            return memoryview(content).nbytes


@contextlib.contextmanager
def resilient_output() -> Iterator[Callable[[], OSError | None]]:
    r"""Continue the work of a command after its output is lost.

    Letters that the encoding of the output lacks are written as escapes, such as ``\xb1``.
    Streams that the caller has replaced stay as they are.

    Yields:
        A function that writes what waits, and returns the error of a standard output that lost
        something; None if nothing was lost, or the reader closed the pipe.
    """
    outputs: dict[str, _Output] = {}
    before: dict[str, TextIO] = {}
    for name in NAMES:
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):
            with contextlib.suppress(OSError):
                stream.flush()
            before[name], outputs[name] = stream, _Output(stream.fileno(), "wb", closefd=False)
            setattr(sys, name, _text(outputs[name], stream))

    def lost() -> OSError | None:
        for name in outputs:
            getattr(sys, name).flush()
        return outputs["stdout"].lost if "stdout" in outputs else None

    try:
        yield lost
    finally:
        lost()
        for name, stream in before.items():
            setattr(sys, name, stream)


def _text(output: _Output, like: io.TextIOWrapper) -> io.TextIOWrapper:
    # "surrogateescape" writes the bytes of a file name as they are, which suffices for UTF-8.
    is_utf8 = codecs.lookup(like.encoding).name == "utf-8"
    fails = like.errors == "strict" or (like.errors == "surrogateescape" and not is_utf8)
    return io.TextIOWrapper(
        io.BufferedWriter(output),
        encoding=like.encoding,
        errors="backslashreplace" if fails else like.errors,
        line_buffering=like.line_buffering,
        write_through=like.write_through,
    )
