from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone

from crkd import NovelClassDiscovery
from crkd.core.errors import InputError
from crkd.estimator.vector_model import VectorModel
from crkd.runs.atomic_files import load_tensors, save_tensors
from crkd.stages.vectors.contest import Contest, Score
from tests.estimator.conftest import Clouds


def assert_same(loaded: NovelClassDiscovery, model: NovelClassDiscovery, X: np.ndarray) -> None:
    """Check that two estimators hold and predict the same bits."""
    assert loaded.get_params() == model.get_params()
    assert loaded.classes_.tolist() == model.classes_.tolist()
    assert loaded.class_names_ == model.class_names_
    assert loaded.num_known_ == model.num_known_
    assert loaded.n_features_in_ == model.n_features_in_
    assert loaded.get_class_info() == model.get_class_info()
    assert loaded.labels_.tolist() == model.labels_.tolist()
    for name in ("predict_proba", "transform"):
        assert getattr(loaded, name)(X).tobytes() == getattr(model, name)(X).tobytes()
    assert loaded.predict(X).tolist() == model.predict(X).tolist()
    for name in ("confidence_", "embedding_"):
        assert getattr(loaded, name).tobytes() == getattr(model, name).tobytes()


def test_a_merged_named_and_updated_estimator_is_loaded_as_it_was(
    updated: NovelClassDiscovery, clouds: Clouds, tmp_path: Path
) -> None:
    updated.merge_classes([[3, 5]]).set_class_names({3: "crane", 0: "Tür"})
    file = tmp_path / "new folder" / "model.safetensors"
    updated.save(file)
    loaded = NovelClassDiscovery.load(str(file))
    assert_same(loaded, updated, clouds.X)
    assert loaded.discovery_ is not None
    assert updated.discovery_ is not None
    assert loaded.discovery_.contest == updated.discovery_.contest
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == file.read_bytes()
    # A later update starts from the same state.
    for model in (loaded, updated):
        model.update(clouds.X[:60], 1).merge_classes([[4, 7]])
    assert_same(loaded, updated, clouds.X)


def test_the_contest_is_kept(fitted: NovelClassDiscovery, tmp_path: Path) -> None:
    contest = Contest((Score("heads", (91.0, 1 / 3)),), ((0, 1), (1, 2)), "heads", "it was best")
    model = fitted._model
    assert isinstance(model, VectorModel)
    discovery = dataclasses.replace(model.discovery, contest=contest)
    fitted._model = dataclasses.replace(model, discovery=discovery)
    fitted.save(tmp_path / "model")
    loaded = NovelClassDiscovery.load(tmp_path / "model").discovery_
    assert loaded is not None
    assert loaded.contest == contest


def test_text_labels_and_outliers_are_kept(clouds: Clouds, tmp_path: Path) -> None:
    X, y = clouds.X[clouds.first], clouds.text()
    y[np.flatnonzero(y == "ant")[0]] = None
    model = NovelClassDiscovery(np.int64(2), method="whitened_kmeans", random_state=0).fit(X, y)
    assert (model.labels_ == -1).sum() == 1
    model.save(tmp_path / "model")
    loaded = NovelClassDiscovery.load(tmp_path / "model")
    assert_same(loaded, model, clouds.X)
    assert_same(loaded.reduce_outliers(), model.reduce_outliers(), clouds.X)
    # The parameters are those of the file: another fit gives the same.
    assert_same(clone(loaded).fit(X, y).reduce_outliers(), model, clouds.X)


@pytest.mark.parametrize("num_novel", [0, 2])
def test_images(num_novel: int, tmp_path: Path) -> None:
    X = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 3), dtype=np.uint8)
    y = np.arange(32) % 4
    model = NovelClassDiscovery(num_novel or None, epochs=2, num_heads=2, hidden=8, random_state=0)
    model.fit(X, np.where(y < 2, y, -1) if num_novel else y)
    if num_novel:
        model.merge_classes([[2, 3]])
    model.save(tmp_path / "model")
    assert_same(NovelClassDiscovery.load(tmp_path / "model"), model, X)


def test_names_of_columns_are_kept(fitted: NovelClassDiscovery, tmp_path: Path) -> None:
    fitted.feature_names_in_ = np.array([f"x{n}" for n in range(12)], dtype=object)
    fitted.save(tmp_path / "model")
    loaded = NovelClassDiscovery.load(tmp_path / "model")
    assert loaded.feature_names_in_.tolist() == fitted.feature_names_in_.tolist()
    assert loaded.get_feature_names_out().tolist() == fitted.get_feature_names_out().tolist()


def test_a_generator_cannot_be_saved(fitted: NovelClassDiscovery, tmp_path: Path) -> None:
    fitted.set_params(random_state=np.random.RandomState(0))
    with pytest.raises(InputError, match=r"random_state is RandomState.* with set_params first"):
        fitted.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    fitted.set_params(random_state=0).save(tmp_path / "model")


def test_a_file_that_cannot_be_written_is_told(fitted: NovelClassDiscovery, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be written .* choose another folder"):
        fitted.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_that_hold_no_estimator_are_refused(
    fitted: NovelClassDiscovery, tmp_path: Path
) -> None:
    file = tmp_path / "model"
    with pytest.raises(InputError, match=r"path .*model is not a file"):
        NovelClassDiscovery.load(file)
    fitted.save(file)
    whole = file.read_bytes()
    for content in (b"", b"text", whole[:-1], whole[:2000] + b"\0" + whole[2001:]):
        file.write_bytes(content)
        with pytest.raises(InputError, match="is damaged"):
            NovelClassDiscovery.load(file)
    file.write_bytes(whole)
    tensors, metadata = load_tensors(file)

    def refuse(message: str, changes: dict[str, object], without: str = "") -> None:
        kept = {name: tensor for name, tensor in tensors.items() if name != without}
        save_tensors(file, kept, {**metadata, **changes})
        with pytest.raises(InputError, match=message):
            NovelClassDiscovery.load(file)

    refuse("holds no estimator", {"format": "crkd-review"})
    refuse("has version 2, and this program reads 1", {"version": 2})
    refuse("is of another version", {"parameters": {"speed": 1}})
    refuse("is damaged", {"classes": {**metadata["classes"], "labels": [0, 1]}})
    refuse("is damaged", {"classes": None})
    refuse("is damaged", {}, "samples.logits")
    refuse("no 'memory.means'", {}, "model.memory.means")


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("names", [[1, 2, 3]]),
        ("labels", [0, [1], 2, 3, 4]),
        ("main", ["x", 1, 2, 3, 4]),
        ("main", [0, 1, 2, 3, 5]),
        ("main", [-1, 1, 2, 3, 4]),
        ("num_known", "3"),
        ("num_known", 6),
        ("num_features", "x"),
        ("samples.logits", torch.zeros(300)),
        ("samples.outputs", torch.full((300,), 5)),
        ("samples.outputs", torch.full((300,), -1)),
    ],
)
def test_malformed_files_are_refused(
    entry: str, value: object, fitted: NovelClassDiscovery, tmp_path: Path
) -> None:
    file = tmp_path / "model"
    fitted.save(file)
    tensors, metadata = load_tensors(file)
    assert isinstance(metadata, dict)
    if isinstance(value, torch.Tensor):
        tensors[entry] = value
    elif entry in metadata:
        metadata[entry] = value
    else:
        metadata["classes"][entry] = value
    save_tensors(file, tensors, metadata)
    with pytest.raises(InputError, match=r"path .*model is damaged \(.*save the estimator again"):
        NovelClassDiscovery.load(file)
