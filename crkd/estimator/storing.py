"""Files of fitted estimators: tensors and JSON, without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from crkd.core.errors import InputError
from crkd.estimator.class_space import ClassSpace
from crkd.estimator.image_model import ImageModel
from crkd.estimator.samples import LearnedSamples
from crkd.estimator.vector_model import VectorModel
from crkd.models.architecture import Architecture
from crkd.models.fitting import fitted_network
from crkd.runs.atomic_files import load_tensors, save_tensors
from crkd.stages.vectors.contest import Contest
from crkd.stages.vectors.state import discovery_from, state_of

FORMAT: Final = "crkd-estimator"
VERSION: Final = 1
MODEL: Final = "model."
SAMPLES: Final = "samples."


@dataclass(frozen=True, eq=False)
class FittedState:
    """Everything that a fitted estimator consists of.

    Attributes:
        parameters: of its constructor.
        num_features: D, or 3 H W.
        feature_names: of the columns of a data frame, or None.
        model: predicts.
        space: the classes.
        samples: the learned samples.
    """

    parameters: Mapping[str, Any]
    num_features: int
    feature_names: list[str] | None
    model: VectorModel | ImageModel
    space: ClassSpace
    samples: LearnedSamples


class StoringMixin:
    """Methods that write and read a fitted estimator."""

    _model: VectorModel | ImageModel
    _space: ClassSpace
    _samples: LearnedSamples
    n_features_in_: int
    feature_names_in_: NDArray[np.object_]

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator to one file of tensors and JSON (safetensors).

        The file holds the parameters, the model, the classes with their names, and the embedding
        and logits of the learned samples; it does not hold ``X``. A file that exists is replaced;
        a crash leaves either the old file or the new one.

        Raises:
            InputError: ``random_state`` is a generator, or the file cannot be written.
        """
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        state = FittedState(
            self.get_params(deep=False),  # type: ignore[attr-defined]
            self.n_features_in_,
            None if names is None else names.tolist(),
            self._model,
            self._space,
            self._samples,
        )
        write_state(path, state)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return an estimator from a file of :meth:`save`; its predictions are bit-identical.

        Nothing is unpickled.

        Raises:
            InputError: the file is missing, damaged, of another kind or of another version.
        """
        state = read_state(path)
        try:
            estimator = cls(**state.parameters)
        except TypeError as error:
            raise InputError(
                f"path {path} is of another version ({error}); save it again"
            ) from None
        estimator.n_features_in_ = state.num_features
        if state.feature_names is not None:
            estimator.feature_names_in_ = np.array(state.feature_names, dtype=object)
        estimator._samples, estimator._space = state.samples, state.space
        estimator._model = state.model
        return estimator


def write_state(path: str | Path, state: FittedState) -> None:
    """Write one safetensors file; a crash leaves either the old file or the new one.

    Raises:
        InputError: a parameter cannot be written as JSON, or the folder cannot be written.
    """
    space, samples = state.space, state.samples
    parameters = {name: _plain(name, value) for name, value in state.parameters.items()}
    tensors, model = _model_parts(state.model)
    arrays = {name: torch.from_numpy(values) for name, values in vars(samples).items()}
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "parameters": parameters,
        "num_features": state.num_features,
        "feature_names": state.feature_names,
        "model": model,
        "classes": {
            "labels": space.output_labels.tolist(),
            "main": space.main.tolist(),
            "num_known": space.num_known,
            "names": [[output, name] for output, name in space.custom_names.items()],
        },
    }
    named = _prefixed(MODEL, tensors) | _prefixed(SAMPLES, arrays)
    save_tensors(Path(path), named, metadata)


def read_state(path: str | Path) -> FittedState:
    """Read a file of :func:`write_state`.

    Raises:
        InputError: the file is missing, damaged, of another kind or of another version.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"path {file} is not a file; give a file that save has written")
    tensors, metadata = load_tensors(file)
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise InputError(f"path {file} holds no estimator; give a file that save has written")
    if metadata.get("version") != VERSION:
        raise InputError(
            f"path {file} has version {metadata.get('version')!r}, and this program reads "
            f"{VERSION}; fit and save the estimator again"
        )
    try:
        arrays = {name: part.numpy() for name, part in _under(SAMPLES, tensors).items()}
        state = FittedState(
            metadata["parameters"],
            metadata["num_features"],
            metadata["feature_names"],
            _model(metadata["model"], _under(MODEL, tensors), file),
            _space(metadata["classes"]),
            LearnedSamples(**arrays),
        )
        _check_sizes(state)
    except InputError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(file, error) from None
    return state


def _model_parts(model: VectorModel | ImageModel) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a model, and its other values for JSON."""
    if isinstance(model, VectorModel):
        found = model.discovery
        return state_of(found), {"input": "vectors", "contest": found.contest.plain()}
    return model.network.state_dict(), {
        "input": "images",
        "architecture": model.architecture.plain(),
        "statistics": model.statistics,
        "size": model.size,
    }


def _model(values: dict[str, Any], tensors: dict[str, Tensor], file: Path) -> Any:
    """Return the model of :func:`_model_parts`."""
    if values["input"] == "vectors":
        return VectorModel.of(discovery_from(tensors, Contest.of(values["contest"])))
    architecture = Architecture.from_plain(values["architecture"], str(file))
    network = fitted_network(architecture, tensors, source=f"the weights of {file}")
    (mean, std), (height, width) = values["statistics"], values["size"]
    statistics = (tuple(mean), tuple(std))
    return ImageModel(network.eval(), architecture, statistics, (height, width))


def _space(values: dict[str, Any]) -> ClassSpace:
    return ClassSpace(
        np.array(values["labels"]),
        np.array(values["main"], np.int64),
        values["num_known"],
        dict(values["names"]),
    )


def _check_sizes(state: FittedState) -> None:
    """Check that classes, samples and model belong together."""
    space, samples = state.space, state.samples
    count, outputs = samples.logits.shape
    fewest = 0 if isinstance(state.model, VectorModel) else 1
    for number, least in ((state.num_features, 1), (space.num_known, fewest)):
        if type(number) is not int or number < least:
            raise ValueError("a number of features or of known classes is out of its range")
    sound = (
        len(space.output_labels) == len(space.main) == outputs
        and len(samples.outputs) == len(samples.settled) == len(samples.embedding) == count
        and samples.embedding.shape[1] == state.model.width
        and space.num_known <= outputs
        and _are_below(outputs, space.main)
        and _are_below(outputs, samples.outputs)
    )
    if not sound:
        raise IndexError("sizes of classes and samples differ")


def _are_below(count: int, places: NDArray[np.int64]) -> bool:
    return bool(((places >= 0) & (places < count)).all())


def _plain(name: str, value: Any) -> Any:
    """Return a parameter as a value of JSON."""
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is None or isinstance(plain, str | int | float):
        return plain
    raise InputError(
        f"{name} is {value!r:.80}, which cannot be saved; set it to a number or a text with "
        "set_params first"
    )


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): part for name, part in tensors.items() if name.startswith(prefix)
    }


def _damaged(file: Path, error: Exception) -> InputError:
    return InputError(f"path {file} is damaged ({error}); save the estimator again")
