"""The console command ``crkd VERB`` and its exit codes."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence

from crkd.commands.verbs import VERBS, command_module, parsers, unknown_verb
from crkd.core.errors import InputError
from crkd.core.output_streams import resilient_output
from crkd.training.interruption import raising_signals

USAGE_ERROR = 2
OUT_OF_MEMORY = 3
NON_FINITE = 4
INTERRUPTED = 130

SPINS = "10000"
"""Turns of a loop in which a thread of GNU OpenMP waits for the others before it sleeps. The
default is far longer: on a busy machine the threads then take the processors from each other."""

UNUSABLE_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of the file system that a wrong path on the command line causes."""


def run_verb(verb: str, arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code; one of several processes ends here.

    Exit codes: 0 success, 2 invalid input (one sentence names the remedy) or an output that cannot
    be written, 3 out of memory, 4 a loss is not finite, 130 interrupted by SIGINT, SIGTERM or
    SIGHUP. Some verbs return others. A pipe that its reader closes ends the output, not the work.

    Args:
        verb: one of :data:`VERBS`.
        arguments: the words after the verb; None takes those of the process.
    """
    limit_spinning()
    given = list(sys.argv[1:] if arguments is None else arguments)
    with resilient_output() as lost:
        code = _exit_code(verb, given)
        error = lost()
        if error is not None:
            code = code or USAGE_ERROR
            print(
                f"crkd {verb}: the output cannot be written ({error.strerror}); free space or "
                "name another place for it",
                file=sys.stderr,
            )
    if _several():
        # Threads of the connections may outlive the interpreter. Its shutdown then sometimes
        # aborts a process whose work is complete.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def limit_spinning() -> None:
    """Let OpenMP threads wait actively for a short time only, unless the environment decides.

    OpenMP reads the variable when torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def _exit_code(verb: str, arguments: list[str]) -> int:
    try:
        with _together(verb):
            given = parsers(verb)[0].parse_args([verb, *arguments])
            code: int = command_module(verb).run(given)
            return code
    except InputError as error:
        print(f"crkd {verb}: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt as stop:
        print(f"crkd {verb}: {str(stop) or 'interrupted'}", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        if error.errno not in UNUSABLE_PATH or error.filename is None:
            raise
        shown = os.fsdecode(error.filename)
        shown = shown if len(shown) <= 80 else f"{shown[:40]}...{shown[-37:]}"
        print(
            f"crkd {verb}: the path {shown!r} cannot be used ({error.strerror}); give another one",
            file=sys.stderr,
        )
        return USAGE_ERROR
    except (RuntimeError, MemoryError) as error:
        return _runtime_failure(verb, error)


def _several() -> bool:
    """Return whether a launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _together(verb: str) -> contextlib.AbstractContextManager[None]:
    """Return a context that connects the processes of a launcher such as torchrun, if any.

    One process alone unwinds at a signal. One of several ends at once: the others may wait for it.
    """
    if not _several():
        return raising_signals()
    from crkd.training.distributed import joined

    return joined(verb)


def _runtime_failure(verb: str, error: Exception) -> int:
    from crkd.training.loop import NonFiniteLossError

    text = str(error)
    if isinstance(error, NonFiniteLossError):
        print(f"crkd {verb}: {text}", file=sys.stderr)
        return NON_FINITE
    memory = isinstance(error, MemoryError) or "out of memory" in text or "can't allocate" in text
    if memory:
        stage = verb if verb in ("pretrain", "distill") else "discover"
        reason = text.splitlines()[0][:200] if text else "host memory"
        print(
            f"crkd {verb}: out of memory; lower --set {stage}.batch_size=N, "
            "evaluation.batch_size or --image-size, or use --set data.storage=streaming "
            f"({reason})",
            file=sys.stderr,
        )
        return OUT_OF_MEMORY
    raise error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``crkd VERB ...`` and return its exit code; see :func:`run_verb`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0].startswith("-"):
        with resilient_output():
            if given:
                parsers()[0].parse_args(given)
            parsers()[0].print_help()
            return USAGE_ERROR
    verb = given[0].replace("_", "-")
    if verb not in VERBS:
        print(f"crkd: {unknown_verb(given[0])}", file=sys.stderr)
        return USAGE_ERROR
    return run_verb(verb, given[1:])


if __name__ == "__main__":
    sys.exit(main())
