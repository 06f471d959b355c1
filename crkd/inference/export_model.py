"""A finished run as one program that other runtimes execute, with its preprocessing inside."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import crkd
from crkd.core.atomic_write import write_bytes
from crkd.core.errors import InputError
from crkd.inference.rows import class_labels
from crkd.inference.vector_outputs import embedding_of
from crkd.models.network import Network, with_one_head
from crkd.models.pretrained.open import open_pretrained
from crkd.models.vector_network import EmbeddedSpaces, VectorSpaces
from crkd.runs.atomic_files import write_json
from crkd.runs.calibration import read_calibration
from crkd.runs.load import OpenedRun, open_run

if TYPE_CHECKING:
    from torch.export import ExportedProgram

SUFFIXES: Final = {"onnx": ".onnx", "torch": ".pt2"}
OUTPUTS: Final = ("logits", "probabilities", "features")
TOLERANCE: Final = 1e-4
"""Largest difference that the check allows, absolute and relative."""
_TRACED_BATCH: Final = 3
_CHECKED_BATCHES: Final = (1, 2, 5)


class Deployed(nn.Module):
    """Images to the logits, probabilities and features of one head, normalization included.

    Args:
        opened: the run, on the CPU; the network is copied.
        temperature: divides the logits before the softmax.
    """

    def __init__(self, opened: OpenedRun, temperature: float = 1.0) -> None:
        super().__init__()
        shape = input_of(opened)
        self.size = int(shape["image_size"])
        self.stored = round(self.size * opened.config.data.stored_share)
        self.temperature = temperature
        self.network = _image_network(opened)
        mean, std = (torch.tensor(shape[name]).view(3, 1, 1) for name in ("mean", "std"))
        self.register_buffer("scale", 1.0 / (255.0 * std))
        self.register_buffer("shift", -mean / std)
        self.eval().requires_grad_(False)

    scale: Tensor
    shift: Tensor

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``(B, C)`` logits, ``(B, C)`` probabilities and ``(B, D)`` features.

        Args:
            images: ``(B, 3, S, S)`` uint8, RGB; of a larger S the middle is taken, as it is when a
                run is evaluated.
        """
        start = round((self.stored - self.size) / 2)
        middle = slice(start, start + self.size)
        view = images[:, :, middle, middle].float() * self.scale + self.shift
        out = self.network([view])
        logits = out.joint_logits()[0, 0]
        return logits, (logits / self.temperature).softmax(-1), out.features[0]


def input_of(opened: OpenedRun) -> Mapping[str, Any]:
    """Return size, mean and standard deviation of the images that a run takes.

    Raises:
        InputError: the run was made of vectors of unknown origin.
    """
    if not opened.architecture.on_vectors:
        return opened.info.preprocessing
    if opened.info.embedding is None:
        raise InputError(
            f"{opened.run.path} was made of vectors of unknown origin, so no program can take "
            "images; export a run on images"
        )
    shape: Mapping[str, Any] = opened.info.embedding["preprocessing"]
    return shape


def _image_network(opened: OpenedRun) -> Network:
    """Return the network of one head that takes images.

    Of a discovery on vectors this is the pretrained backbone and the heads in float32.
    """
    network = with_one_head(opened.network, opened.info.chosen_head)
    if not opened.architecture.on_vectors:
        return network
    info = embedding_of(opened)
    body = open_pretrained(info.backbone, image_size=int(info.preprocessing["image_size"])).network
    if body is None:
        raise InputError(
            f"{opened.run.path} was embedded by the ONNX file {info.backbone}, which cannot become "
            "part of another program; use predict"
        )
    network = network.float()
    assert isinstance(network.backbone, VectorSpaces)
    network.backbone = EmbeddedSpaces(body, network.backbone)
    return network


def export(path: str | Path, form: str, out: Path | None = None) -> tuple[Path, float | None]:
    """Write a run as an ONNX or torch program, and its description as ``NAME.json``.

    Args:
        path: the run folder.
        form: "onnx" or "torch".
        out: the file; None is ``model.onnx`` or ``model.pt2`` in the run folder.

    Returns:
        The file, and the largest difference between its outputs and the run's on noise images;
        None where it could not be compared, because onnxruntime is not installed.

    Raises:
        InputError: the run has no network, a package is missing, or the outputs differ.
    """
    opened = open_run(path, torch.device("cpu"))
    calibration = read_calibration(opened.run)
    temperature = 1.0 if calibration is None else calibration.temperature
    deployed = Deployed(opened, temperature)
    described = description(opened, deployed, calibrated=calibration is not None)
    program = traced(deployed)
    content = _onnx(program, described) if form == "onnx" else _torch(program)
    difference = _compare_onnx(content, deployed) if form == "onnx" else _compare(content, deployed)
    if difference is not None and not difference <= TOLERANCE:
        raise InputError(
            f"--format {form}: the exported program differs from {path} by {difference:.1e}; "
            "nothing was written, export with other versions of torch and onnx"
        )
    target = out or opened.run.path / f"model{SUFFIXES[form]}"
    write_bytes(target, content)
    write_json(target.with_name(f"{target.name}.json"), {**described, "difference": difference})
    return target, difference


def traced(deployed: Deployed) -> ExportedProgram:
    """Return the program of a module, for batches of any size."""
    images = (_images(deployed, _TRACED_BATCH),)
    batch = ({0: torch.export.Dim("batch", min=1)},)
    try:
        return torch.export.export(deployed, images, dynamic_shapes=batch, strict=False)
    except RuntimeError:
        # len(tensor), as in a backbone of a plug-in, fixes the batch size there. Strict tracing
        # keeps it variable, and takes longer.
        return torch.export.export(deployed, images, dynamic_shapes=batch, strict=True)


def description(opened: OpenedRun, deployed: Deployed, *, calibrated: bool) -> dict[str, Any]:
    """Return what a user of the program has to know, in plain values."""
    info, names = opened.info, class_labels(opened.info.classes)
    side = deployed.stored
    return {
        "crkd": crkd.__version__,
        "model_sha256": info.model_sha256,
        "architecture": info.architecture,
        "head": info.chosen_head,
        "classes": [
            {**c.plain(), "name": name} for c, name in zip(info.classes, names, strict=True)
        ],
        "input": {
            "name": "images",
            "type": "uint8",
            "shape": ["batch", 3, side, side],
            "colors": "RGB",
            "before": f"turn upright (EXIF), lay transparency on white, scale the shorter side to "
            f"{side} px (bicubic, antialiased), cut out the middle {side} x {side}",
        },
        "inside": {
            "center_crop": deployed.size,
            "mean": list(input_of(opened)["mean"]),
            "std": list(input_of(opened)["std"]),
            "temperature": deployed.temperature,
        },
        "outputs": {
            "logits": "(batch, classes) float32, known classes first, in the order of 'classes'",
            "probabilities": "(batch, classes) float32, softmax(logits / temperature)",
            "features": "(batch, features) float32, of the backbone",
        },
        "calibrated": {"known": calibrated, "novel": False},
    }


def _images(deployed: Deployed, count: int) -> Tensor:
    noise = np.random.default_rng(count).integers(0, 256, (count, 3, *[deployed.stored] * 2))
    return torch.from_numpy(noise.astype(np.uint8))


def _torch(program: ExportedProgram) -> bytes:
    content = io.BytesIO()
    torch.export.save(program, content)
    return content.getvalue()


def _onnx(program: ExportedProgram, described: dict[str, Any]) -> bytes:
    try:
        import onnx  # noqa: F401 - torch's exporter needs both and says so less clearly
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"--format onnx needs the package {error.name!r}; install it with "
            "'pip install onnx onnxscript onnxruntime'"
        ) from None
    with warnings.catch_warnings():
        # Notes of the exporter to its own authors.
        warnings.simplefilter("ignore")
        made = torch.onnx.export(
            program,
            (),
            dynamo=True,
            input_names=["images"],
            output_names=list(OUTPUTS),
            verbose=False,
        )
    assert made is not None
    model = made.model_proto
    symbol = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == symbol:
                dim.dim_param = "batch"
    model.producer_name, model.producer_version = "crkd", crkd.__version__
    model.metadata_props.add(key="crkd", value=json.dumps(described))
    content: bytes = model.SerializeToString()
    return content


def _compare(content: bytes, deployed: Deployed) -> float:
    loaded = torch.export.load(io.BytesIO(content)).module()
    # PyTorch 2.9 exports the weights as trainable.
    with torch.no_grad():
        return _largest(
            _difference(loaded(images), deployed(images))
            for images in (_images(deployed, count) for count in _CHECKED_BATCHES)
        )


def _compare_onnx(content: bytes, deployed: Deployed) -> float | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return _largest(
        _difference(session.run(None, {"images": images.numpy()}), deployed(images))
        for images in (_images(deployed, count) for count in _CHECKED_BATCHES)
    )


def _difference(found: Any, expected: tuple[Tensor, ...]) -> float:
    """Return the largest difference, absolute up to 1 and relative above."""

    def worst(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
        return float((np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))).max())

    pairs = zip(found, expected, strict=True)
    return _largest(worst(np.asarray(ours), theirs.numpy()) for ours, theirs in pairs)


def _largest(values: Iterable[float]) -> float:
    """Return the largest value, NaN if one is NaN, which :func:`max` may pass over."""
    return float(np.max(list(values)))
