"""A backbone that costs next to nothing: a matrix behind the mean color, as an ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_matrix(file: Path, width: int) -> Path:
    """Write the backbone unless it is there, and return its file.

    Args:
        file: ends with ".onnx".
        width: length of its vectors.
    """
    if file.is_file():
        return file
    import onnx

    matrix = np.random.default_rng(0).normal(size=(3, width)).astype(np.float32)
    info, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=0),
            onnx.helper.make_node("MatMul", ["mean", "matrix"], ["features"]),
        ],
        "matrix",
        [info("images", kind, ["batch", 3, "side", "side"])],
        [info("features", kind, ["batch", width])],
        [onnx.numpy_helper.from_array(matrix, "matrix")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, file)
    return file
