"""Numbers with their nouns, for messages."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number and its noun, which has an "s" unless the number is one.

    Args:
        number: at least 0.
        noun: for one; it may be followed by its verb if ``plural`` is given.
        plural: for any other number.

    >>> counted(1, "image"), counted(1200, "image"), counted(0, "class", "classes")
    ('1 image', '1,200 images', '0 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
