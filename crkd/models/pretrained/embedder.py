"""A pretrained backbone in the form in which it computes: runtime, precision, size of a batch."""

from __future__ import annotations

import contextlib
import copy
import io
import threading
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crkd.core.device import pick_device
from crkd.core.errors import InputError
from crkd.models.pretrained.base import PretrainedBackbone
from crkd.models.pretrained.fused import fused
from crkd.models.pretrained.onnx_file import features_output, onnx_session

RUNTIMES: Final = ("torch", "torch-bf16", "onnx")
BATCH_SIZE: Final = 16
"""Images of a forward pass on a CPU; more of them are not faster with one thread."""
GPU_BATCH_SIZE: Final = 128
COMPARED: Final = 2
"""Images for which a fused network is compared with the network that it was made of."""

Vectors = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Form:
    """Form of the computation of vectors; equal forms give equal bits on one machine.

    Attributes:
        runtime: one of ``RUNTIMES``.
        batch_size: images of a forward pass; smaller batches are filled up.
        device: "cpu" or "cuda".
    """

    runtime: str
    batch_size: int
    device: str = "cpu"

    def plain(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> Form:
        """Return the form of which :meth:`plain` made ``values``.

        Raises:
            InputError: a value is missing or not usable.
        """
        try:
            found = cls(str(values["runtime"]), int(values["batch_size"]), str(values["device"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the form {values!r} is damaged ({error!r})") from None
        known = found.runtime in RUNTIMES and found.device in ("cpu", "cuda")
        if not known or found.batch_size < 1:
            raise InputError(f"the form {values!r} is damaged: a value is out of range")
        return found


class Embedder:
    """Turns decoded images into feature vectors. Safe to call from many threads.

    Args:
        backbone: the network or ONNX file.
        form: runtime, precision and size of a batch.

    Raises:
        InputError: the backbone cannot be used in this form on this machine.
    """

    def __init__(self, backbone: PretrainedBackbone, form: Form) -> None:
        check_runtime(backbone, form.runtime)
        self.backbone, self.form = backbone, form
        # Threads have a current GPU of their own, so the number is settled here.
        self.device = (
            torch.device("cuda", torch.cuda.current_device())
            if pick_device(form.device).type == "cuda"
            else torch.device("cpu")
        )
        preprocessing = backbone.preprocessing
        scale = [1.0 / (255.0 * std) for std in preprocessing.std]
        shift = [
            -mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)
        ]
        self._scale = torch.tensor(scale, dtype=torch.float32, device=self.device).view(3, 1, 1)
        self._shift = torch.tensor(shift, dtype=torch.float32, device=self.device).view(3, 1, 1)
        if form.runtime == "onnx":
            self._session = self._onnx_session()
            self._input = self._session.get_inputs()[0]
            self._output = features_output(self._session, f"--backbone {backbone.name}").name
        else:
            self._type = torch.bfloat16 if form.runtime == "torch-bf16" else torch.float32
            self._network = self._torch_network()

    def __call__(self, pixels: Pixels) -> Vectors:
        """Return ``(b, D)`` float32 vectors of ``(b, S, S, 3)`` uint8 images, RGB.

        The vector of an image depends neither on the other images nor on their number.
        """
        size = self.form.batch_size
        parts = [self._batch(pixels[start : start + size]) for start in range(0, len(pixels), size)]
        if not parts:
            return np.empty((0, self.backbone.num_features), np.float32)
        return np.concatenate(parts)

    @torch.inference_mode()
    def _batch(self, pixels: Pixels) -> Vectors:
        count, size = len(pixels), self.form.batch_size
        if count < size:
            filled = np.zeros((size, *pixels.shape[1:]), np.uint8)
            filled[:count] = pixels
            pixels = filled
        # Channels come last in memory, as the convolutions of a CPU want them.
        images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
        if self.form.runtime == "onnx":
            return self._run(images)[:count]
        images = images.to(self.device)
        view = (images.float() * self._scale + self._shift).to(self._type)
        features: Tensor = self._network(view)
        return features.float().cpu().numpy()[:count]

    def _run(self, images: Tensor) -> Vectors:
        if self._input.type == "tensor(uint8)":
            given = images
        else:
            given = images.float() * self._scale + self._shift
        feed = {self._input.name: given.contiguous().numpy()}
        vectors: Vectors = np.asarray(self._session.run([self._output], feed)[0], np.float32)
        return vectors

    def _torch_network(self) -> torch.nn.Module:
        network = self.backbone.network
        assert network is not None
        if self.device.type == "cpu":
            network = fused(network, self._example(COMPARED))
        made = copy.deepcopy(network).to(self.device, self._type)
        return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def _onnx_session(self) -> Any:
        content = self.backbone.onnx
        if content is None:
            content = _exported(self.backbone, self._example(self.form.batch_size))
        return onnx_session(content, f"--backbone {self.backbone.name}")

    def _example(self, count: int) -> Tensor:
        side = self.backbone.preprocessing.image_size
        noise = np.random.default_rng(0).standard_normal((count, 3, side, side))
        return torch.from_numpy(noise.astype(np.float32))


def check_runtime(backbone: PretrainedBackbone, runtime: str) -> None:
    """Refuse a runtime that a backbone cannot use.

    Raises:
        InputError: the runtime is unknown, or does not fit the backbone.
    """
    if runtime not in RUNTIMES:
        raise InputError(f"--runtime {runtime!r} is unknown; use auto, {', '.join(RUNTIMES)}")
    if backbone.network is None and runtime != "onnx":
        raise InputError(
            f"--runtime {runtime} does not apply to --backbone {backbone.name!r}, an ONNX file; "
            "use --runtime onnx"
        )


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Let every thread of Python compute alone inside the block.

    Several threads then work on several batches. That is faster than several threads for one
    batch, and the bits of a vector do not depend on the number of processors.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_EXPORT = threading.Lock()


def _exported(backbone: PretrainedBackbone, example: Tensor) -> bytes:
    """Return a network of torch as an ONNX file for batches of the size of ``example``.

    Raises:
        InputError: the packages that this needs are missing, or they refuse the network.
    """
    assert backbone.network is not None
    content = io.BytesIO()
    try:
        with _EXPORT, warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            # Notes of the exporter to its own authors. The older exporter takes a tenth of the
            # time of the newer one, and these networks need no more.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                backbone.network,
                (example,),
                content,  # type: ignore[arg-type]
                dynamo=False,
                output_names=["features"],
            )
    # The exporter imports packages that need not be installed, and raises whatever it likes.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"--runtime onnx: the backbone {backbone.name!r} cannot be exported ({reason}); "
            "install 'crkd[export]', or use --runtime torch"
        ) from error
    return content.getvalue()
