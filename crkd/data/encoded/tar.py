"""Encoded images inside a tar file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crkd.data.encoded.base import EncodedImages, Names
from crkd.data.sources.tar_members import read_member, tar_members


class EncodedTar(EncodedImages):
    """The images of a plain tar file, in its order; the file is not unpacked.

    The class of an image is in its neighbor ``NAME.cls``, or else it is the outermost folder of
    its path. Of images with one name the last one counts, as when the file is unpacked.

    Args:
        place: the tar file.

    Raises:
        InputError: the file is damaged or compressed, or a member leaves its folder.
    """

    def __init__(self, place: Path) -> None:
        members = list({member.name: member for member in tar_members(place)}.values())
        names = Names()
        for member in members:
            names.append(member.name)
        super().__init__(place, names, [member.class_name for member in members])
        self._places = np.array([(m.offset, m.size) for m in members], np.int64).reshape(-1, 2)

    def read(self, index: int) -> bytes:
        """Return the content of a member."""
        offset, size = self._places[index].tolist()
        return read_member(self.place, offset, size, f"{self.place}: {self.name(index)}")
