"""Why other counters print other numbers: each one's total, taken apart until nothing is left over.

A term is a sum over launched operators of what the counter adds for one, as its source says. What
the terms do not add up to is shown, not hidden.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench.errors import first_line
from bench.measure.count.cost import fvcore_counts
from bench.measure.count.operators import Operator, blank_copy, blank_image, trace
from bench.spec.values import Frozen

Amount = Callable[[Operator], int]


class Term(Frozen):
    """A part of a counter's total, and in words what it counts."""

    words: str
    value: int


class CounterRow(Frozen):
    """One counter's total for one image; ``terms`` and ``unexplained`` add up to it.

    ``total`` is ``None``, with a ``reason``, where the counter failed. ``leaves_out`` names what
    it does not see.
    """

    counter: str
    version: str
    total: int | None
    terms: tuple[Term, ...] = ()
    unexplained: int = 0
    leaves_out: str = ""
    reason: str | None = None


def _macs(o: Operator) -> int:
    return o.macs


def _bias(o: Operator) -> int:
    return o.bias


def _batch_norm(each: int) -> Amount:
    return lambda o: each * o.read if o.name == "batch_norm" else 0


def _adaptive_pool(o: Operator) -> bool:
    return o.kind in ("pooling", "se_squeeze") and o.caller.startswith("Adaptive")


def _is_pool_module(o: Operator) -> bool:
    return o.kind in ("pooling", "se_squeeze") and "Pool" in o.caller


MACS = ("multiply-accumulates of convolutions and linear layers", _macs)
BIAS = ("1 for each bias that is added", _bias)
# What each counter adds, operator by operator.
TERMS: dict[str, tuple[tuple[str, Amount], ...]] = {
    "this project": (MACS,),
    "torch.utils.flop_counter": (
        MACS,
        ("the same again: it counts the multiplication and the addition", _macs),
    ),
    "fvcore": (
        MACS,
        ("2 for each element that BatchNorm normalises", _batch_norm(2)),
        (
            "1 for each element that an adaptive pooling module averages",
            lambda o: o.read if _adaptive_pool(o) else 0,
        ),
    ),
    "thop": (
        MACS,
        ("4 for each element that BatchNorm normalises", _batch_norm(4)),
        (
            "1 for each element that an adaptive pooling module averages, 1 for each mean",
            lambda o: o.read + o.written if _adaptive_pool(o) else 0,
        ),
    ),
    "ptflops (pytorch)": (
        MACS,
        BIAS,
        ("2 for each element that BatchNorm normalises", _batch_norm(2)),
        ("1 for each element through ReLU", lambda o: o.read if o.name == "relu" else 0),
        (
            "1 more for each element through a ReLU module, seen again as a function call",
            lambda o: o.read if o.caller == "ReLU" else 0,
        ),
        (
            "2 for each element that a pooling module reads: as a module and as a function call",
            lambda o: 2 * o.read if _is_pool_module(o) else 0,
        ),
    ),
    "ptflops (aten)": (MACS, BIAS),
}
LEAVES_OUT = {
    "this project": "what is not a convolution or a linear layer; see the uncounted operators",
    "torch.utils.flop_counter": "biases, and what is not a convolution or a matrix product",
    "fvcore": "biases, activations, additions, SE's means, gates and products, max-pooling",
    "thop": "biases, activations, max-pooling, and whatever is not a module: additions, SE's means "
    "and products",
    "ptflops (pytorch)": "additions, means and products written as operators or methods",
    "ptflops (aten)": "what is not a convolution or a matrix product",
}


def reconcile(model: nn.Module, image_size: int) -> tuple[CounterRow, ...]:
    """Return this project's count of one image beside those of every counter installed.

    The model is not changed. A counter that fails gives a row with its reason.
    """
    operators = trace(model, image_size).operators
    return tuple(
        _row(counter, package, count, operators, model, image_size)
        for counter, (package, count) in COUNTERS.items()
        if importlib.util.find_spec(package)
    )


def _row(
    counter: str,
    package: str,
    count: Callable[[nn.Module, int], int],
    operators: tuple[Operator, ...],
    model: nn.Module,
    image_size: int,
) -> CounterRow:
    row = partial(
        CounterRow,
        counter=counter,
        version=_version("senet-bench" if package == "bench" else package),
        leaves_out=LEAVES_OUT[counter],
    )
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            total = count(model, image_size)
    except Exception as error:  # another project's code, of any version, on any model
        return row(total=None, reason=first_line(error))
    terms = tuple(
        Term(words=words, value=value)
        for words, amount in TERMS[counter]
        if (value := sum(map(amount, operators)))
    )
    unexplained = total - sum(term.value for term in terms)
    return row(total=total, terms=terms, unexplained=unexplained)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"


def _count_here(model: nn.Module, image_size: int) -> int:
    return sum(operator.macs for operator in trace(model, image_size).operators)


def _count_torch(model: nn.Module, image_size: int) -> int:
    twin, image = blank_copy(model, "meta"), blank_image(image_size, "meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        twin(image)
    return int(counter.get_total_flops())


def _count_fvcore(model: nn.Module, image_size: int) -> int:
    return sum(fvcore_counts(model, image_size).values())


def _count_thop(model: nn.Module, image_size: int) -> int:
    thop = importlib.import_module("thop")
    twin, image = blank_copy(model, "meta"), blank_image(image_size, "meta")
    return int(thop.profile(twin, inputs=(image,), verbose=False)[0])


def _count_ptflops(backend: str) -> Callable[[nn.Module, int], int]:
    def count(model: nn.Module, image_size: int) -> int:
        ptflops = importlib.import_module("ptflops")
        # On the CPU: meta kernels are written in Python and would be counted as well.
        total, _ = ptflops.get_model_complexity_info(
            blank_copy(model, "cpu"),
            (3, image_size, image_size),
            as_strings=False,
            print_per_layer_stat=False,
            verbose=False,
            backend=backend,
        )
        if total is None:
            raise RuntimeError("it gave no number")
        return int(total)

    return count


# Counter -> the package that it comes with, and how to ask it.
COUNTERS: dict[str, tuple[str, Callable[[nn.Module, int], int]]] = {
    "this project": ("bench", _count_here),
    "torch.utils.flop_counter": ("torch", _count_torch),
    "fvcore": ("fvcore", _count_fvcore),
    "thop": ("thop", _count_thop),
    "ptflops (pytorch)": ("ptflops", _count_ptflops("pytorch")),
    "ptflops (aten)": ("ptflops", _count_ptflops("aten")),
}
