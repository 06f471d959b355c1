"""An ONNX file that gives features, as a pretrained backbone."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Final

from crkd.core.errors import InputError
from crkd.models.pretrained.base import Preprocessing, PretrainedBackbone

IMAGE_SIZE: Final = 224
MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)
OUTPUT: Final = "features"
KEY: Final = "preprocessing"


def onnx_backbone(path: Path, *, image_size: int | None = None) -> PretrainedBackbone:
    """Return the backbone of an ONNX file.

    The file takes ``(B, 3, S, S)``: normalized float32, or uint8 if it normalizes by itself. Its
    vectors are the output "features", or else its first output of two dimensions. The entry
    "preprocessing" of its metadata may hold the values of ``Preprocessing`` as JSON; without it
    mean and standard deviation are those of ImageNet.

    Args:
        path: the file.
        image_size: side of the input in pixels; None takes what the file says, or 224.

    Raises:
        InputError: no such file, onnxruntime is not installed, or the file does not fit.
    """
    if not path.is_file():
        raise InputError(f"--backbone {str(path)!r} is not a file; check the path")
    content = path.read_bytes()
    session = onnx_session(content, str(path))
    inputs, output = session.get_inputs(), features_output(session, str(path))
    shape = inputs[0].shape
    if len(inputs) != 1 or len(shape) != 4 or shape[1] not in (3, "3") or shape[2] != shape[3]:
        raise InputError(
            f"--backbone {str(path)!r} takes {[(i.name, i.shape) for i in inputs]}; export it with "
            "one input of the shape (batch, 3, side, side)"
        )
    declared = session.get_modelmeta().custom_metadata_map.get(KEY)
    preprocessing = _declared(declared, path) if declared else None
    side = shape[2] if isinstance(shape[2], int) else None
    if image_size is not None and side not in (None, image_size):
        raise InputError(
            f"--image-size {image_size} does not fit --backbone {str(path)!r}, which takes "
            f"{side} px; leave --image-size out"
        )
    size = image_size or side or (preprocessing.image_size if preprocessing else IMAGE_SIZE)
    return PretrainedBackbone(
        name=os.path.abspath(path),
        weights_sha256=hashlib.sha256(content).hexdigest(),
        preprocessing=Preprocessing(
            size,
            preprocessing.interpolation if preprocessing else "bicubic",
            preprocessing.mean if preprocessing else MEAN,
            preprocessing.std if preprocessing else STD,
        ),
        num_features=int(output.shape[1]),
        onnx=content,
    )


def onnx_session(content: bytes, name: str) -> Any:
    """Return a session of ONNX Runtime that computes in the thread of its caller.

    Raises:
        InputError: onnxruntime is not installed, or refuses the file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise InputError(
            f"{name} needs the package 'onnxruntime'; install it with: pip install onnxruntime"
        ) from None
    options = onnxruntime.SessionOptions()
    # Batches run in parallel, each in one thread: results do not depend on the number of threads.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    # ONNX Runtime's errors share no base class.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{name} cannot be used by ONNX Runtime ({reason}); export it again"
        ) from error


def features_output(session: Any, name: str) -> Any:
    """Return the description of the output that holds the vectors.

    Raises:
        InputError: there is none with two dimensions and a fixed length.
    """
    outputs = session.get_outputs()
    fitting = [o for o in outputs if len(o.shape) == 2 and isinstance(o.shape[1], int)]
    named = [output for output in fitting if output.name == OUTPUT]
    if not fitting:
        raise InputError(
            f"{name} gives {[(o.name, o.shape) for o in outputs]}; export it with an output "
            f"{OUTPUT!r} of the shape (batch, features)"
        )
    return (named or fitting)[0]


def _declared(text: str, path: Path) -> Preprocessing:
    try:
        values = json.loads(text)
        return Preprocessing.from_plain(values if isinstance(values, dict) else {})
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"the metadata {KEY!r} of {str(path)!r} is damaged ({error}); export it again"
        ) from None
