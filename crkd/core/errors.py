"""Error for invalid user input."""


class InputError(ValueError):
    """Raised for invalid user input.

    The message is one sentence that names the argument, the received value and the remedy.
    Commands print it without a traceback and end with exit code 2.
    """


def listed(names: object, limit: int = 12) -> str:
    """Join ``names`` with commas for a message, cut after ``limit`` entries.

    >>> listed(["a", "b"])
    'a, b'
    >>> listed(range(5), limit=2)
    '0, 1, ... (5 in all)'
    """
    items = [str(name) for name in names]  # type: ignore[attr-defined]
    if len(items) <= limit:
        return ", ".join(items)
    return ", ".join(items[:limit]) + f", ... ({len(items)} in all)"
