"""A model in an ONNX file as a module, so that it is counted, tested and profiled like others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import UserError, said
from bench.machine.numerics import flush_denormals


class OnnxModel(nn.Module):
    """Run a graph of one input, images (B, C, H, W), and one output, logits (B, K), on the CPU.

    Its large constants are its parameters, so that it has a size and an architecture. What runs is
    the file itself, in ONNX Runtime: no torch runtime is possible. UserError for other graphs.
    """

    runs_in_torch = False

    def __init__(self, content: bytes) -> None:
        import onnx

        super().__init__()
        self.content = content
        graph = onnx.load_from_string(content).graph
        constants = {tensor.name for tensor in graph.initializer}
        given = [value for value in graph.input if value.name not in constants]
        if len(given) != 1 or len(graph.output) < 1:
            raise UserError(f"a classifier has one input, images, and this has {len(given)}")
        self.image_shape = _dimensions(given[0])[1:]
        self.batch_size = _dimensions(given[0])[0]
        if len(self.image_shape) != 3:
            raise UserError(f"images have the shape B×C×H×W, and this takes {_shown(given[0])}")
        self.num_classes = _dimensions(graph.output[0])[-1]
        for number, tensor in enumerate(graph.initializer):
            values = torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
            if values.is_floating_point():
                name = f"{number}_{tensor.name}".replace(".", "_")
                self.register_parameter(name, nn.Parameter(values, requires_grad=False))
        self.session: Any = None

    def takes(self, image_shape: tuple[int, ...]) -> bool:
        """Say whether images of (C, H, W) fit; a dimension without a number takes any."""
        pairs = zip(self.image_shape, image_shape, strict=True)
        return all(not isinstance(own, int) or own == given for own, given in pairs)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, K); on the meta device their shape alone."""
        if images.is_meta:
            if not isinstance(self.num_classes, int):
                raise UserError("the graph does not say how many classes it has")
            return images.new_empty(len(images), self.num_classes)
        if images.dtype != torch.float32 or images.device.type != "cpu":
            raise UserError("an ONNX model is run on the CPU in fp32")
        if self.session is None:
            self.session = open_session(self.content)
        (given,) = self.session.get_inputs()
        return torch.from_numpy(self._run(given.name, images))

    def _run(self, name: str, images: Tensor) -> Any:
        """Run the batch, in pieces of the size that the graph was exported for where it was."""
        import numpy as np

        size = self.batch_size if isinstance(self.batch_size, int) else len(images)
        if len(images) % size:
            raise UserError(f"the graph takes {size} images at a time, not {len(images)}")
        parts = images.contiguous().numpy().reshape(-1, size, *images.shape[1:])
        return np.concatenate([self.session.run(None, {name: part})[0] for part in parts])

    def __deepcopy__(self, memo: Any) -> OnnxModel:
        """Return another of the same file; sessions cannot be copied."""
        return OnnxModel(self.content)


def open_session(content: bytes, *, optimized: bool = True, profiled: str | None = None) -> Any:
    """Return ONNX Runtime's session of a graph; ``profiled`` is where it notes every operator."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if profiled is not None:
        options.enable_profiling, options.profile_file_prefix = True, profiled
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    flush_denormals()
    return session


def _dimensions(value: Any) -> tuple[int | str, ...]:
    """Return the sizes of a graph's input or output; one that is open is a name."""
    shape = value.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in shape)


def _shown(value: Any) -> str:
    return "×".join(map(str, _dimensions(value)))


def whole_onnx(path: Path) -> Any:
    """Return the model in a file, with the weights that lie in files beside it.

    UserError for what is no ONNX model, and for weights that would be read from elsewhere.
    """
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own kinds of errors
        raise UserError(f"{path} is not an ONNX model: {said(error)}") from None
    for name in sorted(_external_files(model)):
        place = (path.parent / name).resolve()
        if not place.is_relative_to(path.parent.resolve()) or not place.is_file():
            raise UserError(f"{path} keeps weights in {name}, which is not beside it")
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # too short a file, say
        raise UserError(f"{path}: the weights beside it cannot be read: {said(error)}") from None
    for tensor in model.graph.initializer:
        tensor.ClearField("data_location")
        del tensor.external_data[:]
    return model


def _external_files(model: Any) -> set[str]:
    """Return the files that a model's tensors lie in, in place of the model's own."""
    tensors = (t for t in model.graph.initializer if t.data_location == t.EXTERNAL)
    return {entry.value for t in tensors for entry in t.external_data if entry.key == "location"}
