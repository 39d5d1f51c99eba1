"""See every operator that a network launches on one image, without doing any arithmetic.

The network is copied to torch's meta device, where tensors have shapes and no values, so that a
ResNet-152 at 224 × 224 costs as much as a ResNet-18 at 32 × 32: next to nothing.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from bench.measure.count.place import Place
from senet.weight_files import unwrap

FP32_BYTES = 4
ATTENTION = "scaled_dot_product_attention"
_MATMULS = frozenset({"addmm", "mm", "bmm", "baddbmm"})
# What starts no kernel: storage is taken, or looked at in another way.
ALLOCATIONS = frozenset({"empty", "empty_like", "empty_strided", "new_empty"})
_LOOKS = frozenset({"unsafe_view", "as_strided", "lift_fresh", "detach"})
_ACTIVATIONS = re.compile(
    r"relu|relu6|prelu|rrelu|leaky_relu|elu|celu|selu|gelu|silu|mish|tanh|sigmoid|log_sigmoid"
    r"|hardtanh|hardswish|hardsigmoid|softplus|softmax"
)
_POOLINGS = re.compile(r"(adaptive_)?(max|avg)_pool\dd|mean|amax")
_OTHER_NAMES = {
    "native_batch_norm": "batch_norm",
    "native_batch_norm_legit_no_training": "batch_norm",
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
    "max_pool2d_with_indices": "max_pool2d",
}


@dataclass(frozen=True)
class Operator:
    """One launch: what it is, where it stands, what it does. ``caller`` is the module's class.

    ``activations`` are the elements that its products make, the scores of attention among them.
    """

    name: str
    kind: str
    stage: str
    caller: str
    macs: int
    activations: int
    bias: int
    read: int
    written: int
    weight_bytes: int
    activation_bytes: int


@dataclass(frozen=True)
class Trace:
    """All launches of one image, and twice the multiply-accumulates as torch counts them."""

    operators: tuple[Operator, ...]
    torch_flops: int


def blank_copy(model: nn.Module, device: str) -> nn.Module:
    """Return an eval-mode copy on ``device`` whose tensors are zero (or have no values, on meta).

    Nothing is computed with the model's own tensors, wherever they are, and its hooks are left
    out of the copy, so that the model cannot notice.
    """
    model = unwrap(model)
    memo: dict[int, Any] = {}
    for tensor in chain(model.parameters(), model.buffers()):
        dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
        blank = torch.zeros(tensor.shape, dtype=dtype, device=device)
        parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(blank, requires_grad=False) if parameter else blank
    twin: nn.Module = copy.deepcopy(model, memo)
    for module in twin.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return twin.eval()


def blank_image(image_size: int, device: str, channels: int = 3) -> Tensor:
    """Return one image of zeros: (1, channels, image_size, image_size)."""
    return torch.zeros(1, channels, image_size, image_size, device=device)


def trace(model: nn.Module, image_size: int, channels: int = 3) -> Trace:
    """Return what the model launches for one image of ``image_size`` pixels a side.

    A model that asks tensors for their values, which the meta device has none of, is computed
    with zeros.
    """
    try:
        return _trace(model, image_size, channels, "meta")
    except Exception:  # a network is anybody's code
        return _trace(model, image_size, channels, "cpu")


def _trace(model: nn.Module, image_size: int, channels: int, device: str) -> Trace:
    twin = blank_copy(model, device)
    place = Place(twin)
    torch_counter = FlopCounterMode(display=False)
    launches = _Launches(twin, place)
    image = blank_image(image_size, device, channels)
    with torch.no_grad(), torch_counter, launches, _FusedAttention(launches):
        twin(image)
    return Trace(tuple(launches.seen), torch_counter.get_total_flops())


class _Launches(TorchDispatchMode):
    """Note every operator that reads or writes elements; views and allocations do not."""

    def __init__(self, model: nn.Module, place: Place) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types
        self.place = place
        self.seen: list[Operator] = []
        self.paused = False
        # Storages, because a linear layer multiplies by a transposed view of its weight.
        tensors = chain(model.parameters(), model.buffers())
        self.weights = {_storage(tensor) for tensor in tensors}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = plain_name(func._schema.name)
        if is_launch(func, name) and _tensors(out) and not self.paused:
            self.note(name, args, kwargs, out)
        return out

    def note(self, name: str, args: Sequence[Any], kwargs: Any, out: Any) -> None:
        """Add one launch to what was seen."""
        self.seen.append(self._operator(name, args, kwargs, out))

    def _operator(self, name: str, args: Sequence[Any], kwargs: Any, out: Any) -> Operator:
        read = _tensors((args, kwargs))
        if name == "embedding":  # looks up as many elements as it returns
            read = [_tensors(out)[0]]
        weights = [tensor for tensor in read if _storage(tensor) in self.weights]
        # Max-pool's indices and BatchNorm's saved statistics are not asked for in inference.
        result = _tensors(out)[0]
        all_elements = sum(map(elements, read)) + result.numel()
        weight_elements = sum(map(elements, weights))
        return Operator(
            name=name,
            kind=kind_of(name, in_se=self.place.in_se),
            stage=self.place.stage,
            caller=self.place.caller,
            macs=_macs(name, args, result),
            activations=_activations(name, args, result),
            bias=result.numel() if _has_bias(name, args) else 0,
            read=_first(read),
            written=result.numel(),
            weight_bytes=FP32_BYTES * weight_elements,
            activation_bytes=FP32_BYTES * (all_elements - weight_elements),
        )


class _FusedAttention(TorchFunctionMode):
    """Note attention as the one launch that it is on every device that computes.

    The meta device has no kernel for it and takes it apart.
    """

    def __init__(self, launches: _Launches) -> None:
        super().__init__()
        self.launches = launches

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        self.launches.paused = True
        try:
            out = func(*args, **kwargs)
        finally:
            self.launches.paused = False
        names = ("query", "key", "value", "attn_mask")
        given = [*args[:4], *(kwargs[name] for name in names[len(args) :] if name in kwargs)]
        self.launches.note(ATTENTION, given, {}, out)
        return out


def plain_name(schema_name: str) -> str:
    """Return an operator's name without namespace, in-place mark and backend: relu, batch_norm."""
    name = schema_name.partition("::")[2].strip("_")
    return _OTHER_NAMES.get(name, name)


def kind_of(name: str, *, in_se: bool = False) -> str:
    """Return the kind of an operator, as `CostPart` lists them."""
    kind = "other"
    if name == "convolution":
        kind = "conv"
    elif name in _MATMULS:
        kind = "linear"
    elif name.startswith("scaled_dot_product"):
        kind = "attention"
    elif name.endswith("_norm"):
        kind = "norm"
    elif _POOLINGS.fullmatch(name):
        kind = "pooling"
    elif _ACTIVATIONS.fullmatch(name):
        kind = "activation"
    elif name == "add":
        kind = "add"
    return _se_kind(name, kind) if in_se else kind


def _se_kind(name: str, kind: str) -> str:
    if "sigmoid" in name:
        return "se_gate"
    if name == "mul":
        return "se_scale"
    parts = {"pooling": "se_squeeze", "conv": "se_fc", "linear": "se_fc", "activation": "se_relu"}
    return parts.get(kind, kind)


def _macs(name: str, args: Sequence[Any], out: Tensor) -> int:
    """Return the multiply-accumulates of a convolution or of matrix products, without bias."""
    if name == "convolution":
        image, weight, transposed = args[0], args[1], args[6]
        # A weight has (C_out, C_in / groups, …) elements, or (C_in, C_out / groups, …) transposed.
        positions = image if transposed else out
        return int(positions.numel() * weight.numel() // weight.shape[0])
    if name in _MATMULS:
        left = args[-2] if name in ("mm", "bmm") else args[1]
        return int(out.numel() * left.shape[-1])
    if name == ATTENTION:  # scores, then their products with the values
        return _num_scores(args) * int(args[0].shape[-1] + out.shape[-1])
    return 0


def _num_scores(args: Sequence[Any]) -> int:
    """Return how many pairs of a query (…, L, E) and a key (…, S, E) attention weighs."""
    query, key = args[0], args[1]
    return int(query.numel() // query.shape[-1] * key.shape[-2])


def _activations(name: str, args: Sequence[Any], out: Tensor) -> int:
    scores = _num_scores(args) if name == ATTENTION else 0
    return out.numel() + scores if _macs(name, args, out) else 0


def _has_bias(name: str, args: Sequence[Any]) -> bool:
    return name in ("addmm", "baddbmm") or (name == "convolution" and args[2] is not None)


def elements(tensor: Tensor) -> int:
    """Return how many different elements a tensor has; expanded dimensions repeat theirs."""
    return math.prod(
        size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride
    )


def _tensors(values: Any) -> list[Tensor]:
    """Return the tensors of numbers with fractions in nested arguments."""
    leaves: Iterable[Any] = tree_leaves(values)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _first(tensors: Sequence[Tensor]) -> int:
    return tensors[0].numel() if tensors else 0


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def is_launch(func: Any, name: str) -> bool:
    """Say whether an operator reads or writes elements; views and allocations do not."""
    return name not in ALLOCATIONS | _LOOKS and not is_view(func)


def is_view(func: Any) -> bool:
    aliases = [result.alias_info for result in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)
