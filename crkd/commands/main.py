"""The console command ``crkd VERB``, and how every command ends."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence

import crkd
from crkd.core.errors import InputError

VERBS = {
    "pretrain": "stage 1: train on the known classes",
    "discover": "stage 2: find the novel classes",
    "increments": "a plan of discoveries, step by step, the old images gone",
    "distill": "compress a run into a small network",
    "evaluate": "recompute every figure of a run from its predictions",
    "compare": "set runs side by side",
    "reproduce": "run a row of the results with several seeds and compare it",
    "baseline": "the easy methods: kmeans, uno, supervised",
    "search-student": "rank small networks to distil a run into",
    "embed": "feature vectors of images, by a pretrained backbone",
    "predict": "say which classes new images are of, and how sure",
    "review": "one page on which a person decides about discovered classes",
    "apply-review": "a run with named classes, from the decisions of a review",
    "export": "a run as ONNX or torch program, or its classes for labeling tools",
    "estimate-k": "how many classes there are among unlabeled images",
    "check-data": "look a data set over before training",
    "check-gpu": "check the GPU code on this machine",
    "bench": "measure a part of the system",
    "gpu-day": "everything that a lent GPU should measure, in slices of a few minutes",
}

USAGE_ERROR = 2
OUT_OF_MEMORY = 3
NON_FINITE = 4
INTERRUPTED = 130


def run_verb(verb: str, arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code; of several processes each ends here.

    0 success; 2 something the person can mend, told in one sentence; 3 out of memory; 4 a loss
    was not finite; 130 interrupted with the state saved.
    """
    code = _exit_code(verb, arguments)
    if _several():
        # Threads of the connections may outlive the interpreter, and tearing it down around them
        # now and then aborts a process whose work is done.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _exit_code(verb: str, arguments: Sequence[str] | None) -> int:
    module = importlib.import_module(f"crkd.commands.{verb.replace('-', '_')}")
    command: Callable[[Sequence[str] | None], int] = module.main
    try:
        with _together(verb):
            return command(arguments)
    except InputError as error:
        print(f"crkd {verb}: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print(f"crkd {verb}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe (head, less) went away: nothing is wrong.
        sys.stderr.close()
        return 0
    except (RuntimeError, MemoryError) as error:
        return _runtime_failure(verb, error)


def _several() -> bool:
    """Return whether a launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _together(verb: str) -> contextlib.AbstractContextManager[None]:
    """Return what joins the processes that a launcher such as torchrun started, if it did."""
    if not _several():
        return contextlib.nullcontext()
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
            f"crkd {verb}: out of memory; lower --set {stage}.batch_size=N (or "
            "evaluation.batch_size, or --image-size), or use --set data.storage=streaming "
            f"({reason})",
            file=sys.stderr,
        )
        return OUT_OF_MEMORY
    raise error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``crkd VERB ...``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] == "--version":
        print(f"crkd {crkd.__version__}")
        return 0
    if not given or given[0] in ("-h", "--help"):
        print("usage: crkd VERB ...  (crkd VERB --help tells more)\n")
        for verb, text in VERBS.items():
            print(f"  {verb:<14} {text}")
        return 0 if given else USAGE_ERROR
    verb = given[0].replace("_", "-")
    if verb not in VERBS:
        print(f"crkd: unknown verb {given[0]!r}; use one of: {', '.join(VERBS)}", file=sys.stderr)
        return USAGE_ERROR
    return run_verb(verb, given[1:])


if __name__ == "__main__":
    sys.exit(main())
