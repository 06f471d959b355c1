"""The classes of a fitted estimator: labels, names, and the outputs of the model behind them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd.core.errors import InputError, listed
from crkd.estimator.labels import novel_labels


@dataclass(frozen=True, eq=False)
class ClassSpace:
    """C classes over the O outputs of a model, C at most O.

    The outputs are the known classes, then the novel ones in the order of their discovery. Each
    output got a label when it was learned, and no label is used twice. A merged class has several
    outputs; it bears the label of one of them.

    Attributes:
        output_labels: ``(O,)`` label of each output.
        main: ``(O,)`` int64 output whose label the class of each output bears.
        num_known: K, number of known classes. Two known classes are never merged.
        custom_names: main output to name, of classes that were given a name.
    """

    output_labels: NDArray[Any]
    main: NDArray[np.int64]
    num_known: int
    custom_names: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, known: NDArray[Any], num_novel: int) -> ClassSpace:
        """Return one class for each of ``(K,)`` known labels and of the novel outputs."""
        return cls(known, np.arange(len(known)), len(known)).extended(num_novel)

    @property
    def mains(self) -> NDArray[np.int64]:
        """Main output of each class, ``(C,)`` ascending."""
        return np.unique(self.main)

    @property
    def labels(self) -> NDArray[Any]:
        """Labels of the classes, ``(C,)``."""
        found: NDArray[Any] = self.output_labels[self.mains]
        return found

    @property
    def names(self) -> list[str]:
        """Names of the C classes; a class without a name has its label as text."""
        pairs = zip(self.mains.tolist(), self.labels.tolist(), strict=True)
        return [self.custom_names.get(output, str(label)) for output, label in pairs]

    @property
    def class_of_output(self) -> NDArray[np.int64]:
        """Position of the class of each output, ``(O,)`` in ``[0, C)``."""
        return np.searchsorted(self.mains, self.main).astype(np.int64)

    def position(self, label: Any) -> int:
        """Return the position of a class among ``labels``.

        Raises:
            InputError: no class has this label.
        """
        plain = label.tolist() if hasattr(label, "tolist") else label
        labels = self.labels.tolist()
        if plain not in labels:
            raise InputError(f"{plain!r:.80} is not a class; choose one of: {listed(labels)}")
        position: int = labels.index(plain)
        return position

    def logits(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Return the logits of the classes, ``(N, C)``: the largest among the outputs of a class.

        A merging therefore changes only the predictions of the merged classes, as in
        :class:`crkd.models.heads.reviewed.ReviewedHead`.

        Args:
            outputs: ``(N, O)`` joint logits of the model.
        """
        logits: NDArray[Any] = outputs[:, self.mains]
        place = self.class_of_output
        for output in np.flatnonzero(self.main != np.arange(len(self.main))):
            column = place[output]
            logits[:, column] = np.maximum(logits[:, column], outputs[:, output])
        return logits

    def extended(self, num_novel: int) -> ClassSpace:
        """Return the classes followed by ``num_novel`` further ones, each with a new output.

        The label of a new class is neither a label of an earlier class nor the name of one.
        """
        taken = self.custom_names.values()
        further = novel_labels(self.output_labels, num_novel, taken)
        labels = np.concatenate([self.output_labels, further])
        main = np.concatenate([self.main, np.arange(len(self.main), len(labels))])
        return dataclasses.replace(self, output_labels=labels, main=main)

    def merged(self, groups: Sequence[Sequence[Any]]) -> ClassSpace:
        """Return the classes after each group of labels has become one class.

        The class keeps label and name of the known class in its group, otherwise of the first.

        Raises:
            InputError: a group has fewer than two classes or two known ones, or a class is missing
                or in two groups.
        """
        positions = [self._group(group) for group in groups]
        used = [position for group in positions for position in group]
        twice = {self.labels.tolist()[p] for p in used if used.count(p) > 1}
        if twice:
            raise InputError(
                f"groups name the class {listed(sorted(twice, key=str))} twice; name every class "
                "once, and give all classes that become one in the same group"
            )
        main, mains = self.main.copy(), self.mains
        for group in positions:
            outputs = mains[group]
            known = outputs[outputs < self.num_known]
            if len(known) > 1:
                labels = listed(self.output_labels[known].tolist())
                raise InputError(
                    f"groups merge the known classes {labels}, whose labels are yours; give their "
                    "samples one label in y and fit again"
                )
            main[np.isin(self.main, outputs)] = known[0] if len(known) else outputs[0]
        names = {output: name for output, name in self.custom_names.items() if output in main}
        return dataclasses.replace(self, main=main, custom_names=names)

    def renamed(self, names: Mapping[Any, str]) -> ClassSpace:
        """Return the classes with other names, given by label.

        Raises:
            InputError: it is no mapping, a class is missing, or a name is blank, no text or taken.
        """
        if not isinstance(names, Mapping):
            raise InputError(
                f"names is a {type(names).__name__}; give a mapping of labels to names, such as "
                f"{{{self.labels.tolist()[0]!r}: 'name'}}"
            )
        custom, mains = dict(self.custom_names), self.mains.tolist()
        for label, name in names.items():
            if not isinstance(name, str) or not name.strip():
                raise InputError(f"names gives {name!r:.80} to the class {label!r}; give a text")
            custom[mains[self.position(label)]] = str(name)
        found = dataclasses.replace(self, custom_names=custom)
        taken = [name for name in set(found.names) if found.names.count(name) > 1]
        if taken:
            raise InputError(
                f"names calls two classes {min(taken)!r}; choose another name, or merge the classes"
            )
        return found

    def _group(self, group: Any) -> list[int]:
        """Return the positions of the classes of a group."""
        if isinstance(group, str) or not hasattr(group, "__iter__"):
            raise InputError(
                f"groups holds {group!r:.80}; give lists of labels, such as [[first, second]]"
            )
        positions = [self.position(label) for label in group]
        if len(positions) < 2:
            raise InputError(
                f"groups holds {list(group)!r:.80}; a group needs two classes or more to merge"
            )
        return positions
