"""What a graph in an ONNX file costs, counted from its shapes and from a run of it.

The shapes are those that ONNX infers without computing; the run is ONNX Runtime's on zeros,
nothing optimised, which notes the shapes that every operator was given.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.compute.exchange.onnx_model import OnnxModel, open_session
from bench.errors import UserError
from bench.measure.count.agreement import check_agreement
from bench.record.cost import CostFacts, CostPart

Shape = tuple[int, ...]
BYTES = 4
KINDS = {
    **dict.fromkeys(("Conv", "ConvTranspose"), "conv"),
    **dict.fromkeys(("Gemm", "MatMul"), "linear"),
    **dict.fromkeys(("BatchNormalization", "LayerNormalization", "GroupNormalization"), "norm"),
    **dict.fromkeys(("Relu", "Sigmoid", "HardSwish", "HardSigmoid", "Gelu", "Clip"), "activation"),
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean"), "pooling"),
    "Add": "add",
}
# What moves no elements: shapes are computed with, or tensors looked at in another way.
FREE = frozenset({"Constant", "Shape", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})


@dataclass(frozen=True)
class Node:
    """One operator of the graph with the shapes that it reads and writes."""

    name: str
    inputs: tuple[Shape, ...]
    weights: tuple[bool, ...]
    output: Shape

    @property
    def macs(self) -> int:
        return macs_of(self.name, self.inputs, self.output)


def count_onnx(model: OnnxModel, image_size: int, channels: int) -> CostFacts:
    """Return the cost of one image; `CountersDisagreeError` where graph and run differ.

    UserError for a graph with nothing to count, or whose shapes cannot be inferred.
    """
    nodes = _nodes(model, (1, channels, image_size, image_size))
    macs = sum(node.macs for node in nodes)
    if macs == 0:
        raise UserError("the ONNX graph has no convolution and no matrix product to count")
    run = _macs_of_run(model, (1, channels, image_size, image_size))
    counts = {"the graph's shapes": macs, "ONNX Runtime's run": run}
    check_agreement(counts, f"the ONNX graph at {image_size}×{image_size}")
    parts = _parts(nodes)
    params = sum(value.numel() for value in model.parameters())
    return CostFacts(
        params=params,
        macs=macs,
        flops=2 * macs,
        uncounted=dict(sorted(Counter(node.name for node in nodes if not node.macs).items())),
        operators=len(nodes),
        activations=sum(math.prod(node.output) for node in nodes if node.macs),
        param_bytes=BYTES * params,
        weight_bytes=sum(part.weight_bytes for part in parts),
        activation_bytes=sum(part.activation_bytes for part in parts),
        parts=parts,
        counters=tuple(counts),
    )


def macs_of(name: str, inputs: Sequence[Shape], output: Shape) -> int:
    """Return the multiply-accumulates of an operator, without bias; 0 for those that have none."""
    if name == "Conv":
        return math.prod(output) * math.prod(inputs[1][1:])
    if name == "ConvTranspose":
        return math.prod(inputs[0]) * math.prod(inputs[1][1:])
    if name == "Gemm":
        return math.prod(inputs[0]) * output[-1]
    if name == "MatMul":
        return math.prod(output) * inputs[0][-1]
    return 0


def _nodes(model: OnnxModel, shape: Shape) -> list[Node]:
    """Return the operators that move elements, their shapes inferred for one image of a shape."""
    import onnx

    proto = onnx.load_from_string(model.content)
    constants = {tensor.name for tensor in proto.graph.initializer}
    (given,) = [value for value in proto.graph.input if value.name not in constants]
    dimensions = given.type.tensor_type.shape.dim
    for dimension, size in zip(dimensions, shape, strict=True):
        dimension.dim_value = size
    del proto.graph.value_info[:]
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.output, *inferred.value_info):
        sizes = value.type.tensor_type.shape.dim
        shapes[value.name] = tuple(d.dim_value for d in sizes)
    return [_node(node, shapes, constants) for node in inferred.node if node.op_type not in FREE]


def _node(node: Any, shapes: Mapping[str, Shape], constants: set[str]) -> Node:
    read = [name for name in node.input if name]
    missing = [name for name in (*read, node.output[0]) if 0 in shapes.get(name, (0,))]
    if missing and node.op_type in KINDS:
        raise UserError(f"the shapes of the ONNX graph cannot be inferred at {node.op_type}")
    inputs = tuple(shapes.get(name, ()) for name in read)
    weights = tuple(name in constants for name in read)
    return Node(node.op_type, inputs, weights, shapes.get(node.output[0], ()))


def _macs_of_run(model: OnnxModel, shape: Shape) -> int:
    """Return the multiply-accumulates by the shapes that ONNX Runtime notes while it runs."""
    with tempfile.TemporaryDirectory() as folder:
        prefix = str(Path(folder) / "profile")
        session = open_session(model.content, optimized=False, profiled=prefix)
        (given,) = session.get_inputs()
        batch = model.batch_size if isinstance(model.batch_size, int) else 1
        session.run(None, {given.name: np.zeros((batch, *shape[1:]), np.float32)})
        events = json.loads(Path(session.end_profiling()).read_text())
    return sum(_macs_of_event(event["args"]) for event in events if "args" in event) // batch


def _macs_of_event(noted: Mapping[str, Any]) -> int:
    name, shapes = noted.get("op_name"), noted.get("input_type_shape")
    if name not in KINDS or not shapes:
        return 0
    inputs = [tuple(size) for shape in shapes for size in shape.values()]
    (output,) = (tuple(size) for size in noted["output_type_shape"][0].values())
    return macs_of(name, inputs, output)


def _parts(nodes: Sequence[Node]) -> tuple[CostPart, ...]:
    """Return the cost by kind of operator; a graph does not say where its stages are."""
    kinds: dict[str, list[Node]] = {}
    for node in nodes:
        kinds.setdefault(KINDS.get(node.name, "other"), []).append(node)
    return tuple(_part(kind, group) for kind, group in kinds.items())


def _part(kind: str, nodes: Sequence[Node]) -> CostPart:
    pairs = [pair for node in nodes for pair in zip(node.inputs, node.weights, strict=True)]
    weights = sum(math.prod(shape) for shape, is_weight in pairs if is_weight)
    read = sum(math.prod(shape) for shape, is_weight in pairs if not is_weight)
    written = sum(math.prod(node.output) for node in nodes)
    return CostPart(
        stage="graph",
        kind=kind,
        operators=len(nodes),
        params=weights,
        macs=sum(node.macs for node in nodes),
        activations=sum(math.prod(node.output) for node in nodes if node.macs),
        weight_bytes=BYTES * weights,
        activation_bytes=BYTES * (read + written),
    )
