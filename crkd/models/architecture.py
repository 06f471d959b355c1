"""Architecture description of a network in plain values, stored in the run folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from crkd.core.errors import InputError, listed
from crkd.core.fields import BOOLEAN, Allowed, check_fields, list_of, number, one_of, text, whole

KNOWN_HEADS = ("prototype", "linear")
VECTORS: Final = "vectors"
"""Name in the place of a backbone of a network on feature vectors."""
MAX_CLASSES: Final = 100_000
MAX_GROUPS: Final = 1_000
MAX_HEADS: Final = 1_000
MAX_WIDTH: Final = 1 << 20

_COUNT: Final = whole(0, MAX_CLASSES)
_FIELDS: Final[Mapping[str, Allowed]] = {
    "backbone": text(500),
    "image_size": whole(1, 1 << 16),
    "num_known": _COUNT,
    "num_novel": _COUNT,
    "num_heads": whole(1, MAX_HEADS),
    "known_head": one_of(*KNOWN_HEADS),
    "hidden": whole(1, MAX_WIDTH),
    "projection": whole(1, MAX_WIDTH),
    "overclustering": whole(0, 1_000),
    "temperature": number(1e-6, 1e6),
    "groups": list_of(whole(1, MAX_CLASSES), 0, MAX_GROUPS),
    "joint": BOOLEAN,
    "projected": whole(0, MAX_WIDTH),
    "projected_stride": whole(1, 1_000),
    "reviews": list_of(
        list_of(whole(-MAX_CLASSES - 1, MAX_CLASSES), 0, MAX_CLASSES), 0, MAX_GROUPS + 1
    ),
    "review_parts": list_of(whole(2, 1_000), 0, MAX_GROUPS + 1),
}
"""Allowed values in a file. The sizes are far above those of any run; the weights limit them."""
_OPTIONAL: Final = {"reviews", "review_parts", "projected_stride"}


@dataclass(frozen=True)
class Architecture:
    """Values from which a network of the same shape can be built.

    Attributes:
        backbone: name for :func:`crkd.models.backbones.build.build_backbone`.
        image_size: side of the large crops in pixels.
        num_known: K, at least 1; 0 for a first discovery on vectors without known classes.
        num_novel: M; 0 before discovery.
        num_heads: H novel heads.
        known_head: ``prototype`` (cosines over the temperature) or ``linear``.
        hidden: width of the hidden layer of each novel head.
        projection: length of the projected features of each novel head.
        overclustering: the over-clustering heads have this many times M clusters; 0 makes none.
        temperature: divides all cosines, above 0.
        groups: number of the K known classes that each earlier discovery found, in order; the
            head of that discovery gives the logits of the group. On vectors they can be all K.
        joint: whether one head of the known head's kind gives the logits of all C classes, without
            novel heads.
        projected: number of channels to which a projector maps the last feature map; the mean of
            the projected map is the feature vector. 0 means no projector. See
            :class:`crkd.models.backbones.simkd_projector.ProjectedBackbone`.
        projected_stride: factor by which the sides of the last map shrink before the projector.
            Older runs have none: their maps were projected at full size.
        reviews: for each of the groups, and then for the novel classes, the result of a review:
            the class of every part of every prototype, see
            :class:`crkd.models.heads.reviewed.ReviewedHead`. Missing or empty without a review.
        review_parts: for each review the number of parts of a prototype; 2 where it is missing.

    Raises:
        InputError: a value is out of range.
    """

    backbone: str
    image_size: int
    num_known: int
    num_novel: int = 0
    num_heads: int = 4
    known_head: str = "prototype"
    hidden: int = 2048
    projection: int = 256
    overclustering: int = 0
    temperature: float = 0.1
    groups: tuple[int, ...] = ()
    joint: bool = False
    projected: int = 0
    projected_stride: int = 1
    reviews: tuple[tuple[int, ...], ...] = ()
    review_parts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.known_head not in KNOWN_HEADS:
            raise InputError(
                f"unknown known head {self.known_head!r}; choose one of: {', '.join(KNOWN_HEADS)}"
            )
        for name in ("num_novel", "overclustering", "projected"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; it may not be negative")
        if self.projected_stride < 1:
            raise InputError(f"projected_stride is {self.projected_stride}; it must be 1 or more")
        self._check_known()
        found = (*self.groups, self.num_novel) if self.has_novel_heads else self.groups
        sizes = [max(review, default=-1) + 1 for review in self.reviews]
        if len(sizes) > len(found) or any(
            size not in (0, group) for size, group in zip(sizes, found, strict=False)
        ):
            raise InputError(
                f"reviews make groups of {listed(sizes)} classes, but the groups are "
                f"{listed(found)}; they must be the same"
            )
        self._check_merged()

    def _check_known(self) -> None:
        """Refuse numbers of known classes that contradict each other."""
        given = self.num_known - sum(self.groups)
        if min(self.groups, default=1) < 1 or given < 0:
            raise InputError(
                f"groups is ({listed(self.groups)}), but num_known is {self.num_known}; every "
                "group needs a class, and all of them are known classes"
            )
        if given == 0 and not self.on_vectors:
            raise InputError(
                f"num_known is {self.num_known} with the groups ({listed(self.groups)}); a network "
                "for images needs a class that is known from the start"
            )
        if self.num_known + self.num_novel == 0:
            raise InputError("num_known and num_novel are 0; a network needs a class")

    def _check_merged(self) -> None:
        """Refuse parts of prototypes that a review merged into a class which does not exist yet."""
        earlier = self.num_known - sum(self.groups)
        for review, size in zip(self.reviews, (*self.groups, 0), strict=False):
            if min(review, default=0) < -1 - earlier:
                raise InputError(
                    f"a review merges a part into class {-2 - min(review)}, but there are "
                    f"{earlier} earlier classes"
                )
            earlier += size

    @property
    def on_vectors(self) -> bool:
        """Whether the input is feature vectors instead of images."""
        return self.backbone == VECTORS

    @property
    def has_novel_heads(self) -> bool:
        """Whether separate clustering heads give the logits of the novel classes."""
        return self.num_novel > 0 and not self.joint

    def review_of(self, group: int) -> tuple[int, ...]:
        """Return the review of a group, or of the novel classes after the last; () for none."""
        return self.reviews[group] if group < len(self.reviews) else ()

    def parts_of(self, group: int) -> int:
        """Return the number of parts of a prototype in the review of a group."""
        return self.review_parts[group] if group < len(self.review_parts) else 2

    def absorbed(self) -> Architecture:
        """Return the architecture in which the novel classes have become known ones."""
        if self.num_novel == 0:
            return self
        groups = self.groups if self.joint else (*self.groups, self.num_novel)
        return dataclasses.replace(
            self,
            num_known=self.num_known + self.num_novel,
            num_novel=0,
            overclustering=0,
            groups=groups,
            joint=False,
        )

    def plain(self) -> dict[str, Any]:
        """Return the values for a JSON file."""
        return dataclasses.asdict(self)

    @classmethod
    def from_plain(cls, values: object, origin: str) -> Architecture:
        """Return the architecture that :meth:`plain` wrote.

        Args:
            values: content of a JSON file.
            origin: the file, for messages.

        Raises:
            InputError: an entry is missing, of the wrong type or out of range, or the entries do
                not fit each other.
        """
        if not isinstance(values, dict):
            raise InputError(f"{origin} does not describe its network; restore it")
        # Older runs have no reviews, and no pooling before a projector.
        check_fields(values, _FIELDS, origin, optional=_OPTIONAL, prefix="architecture.")
        given = {
            **values,
            "temperature": float(values["temperature"]),
            "groups": tuple(values["groups"]),
            "reviews": tuple(map(tuple, values.get("reviews", ()))),
            "review_parts": tuple(values.get("review_parts", ())),
        }
        try:
            return cls(**given)
        except InputError as error:
            raise InputError(f"{origin}: architecture: {error}") from None
