"""Cost without a clock: what a model is counted to take."""

from __future__ import annotations

from pydantic import Field

from bench.spec.values import Frozen


class CostPart(Frozen):
    """The share that one kind of operator has, in one stage, of the cost of one image.

    ``stage`` is ``stem``, ``stage1`` … ``stage4`` or ``head``; ``kind`` is ``conv``, ``linear``,
    ``norm``, ``attention``, ``activation``, ``pooling``, ``add``, ``se_squeeze``, ``se_fc``,
    ``se_relu``, ``se_gate``, ``se_scale`` or ``other``. The counts are those of `CostFacts`.
    """

    stage: str
    kind: str
    operators: int
    params: int
    macs: int
    activations: int
    weight_bytes: int
    activation_bytes: int


class CostFacts(Frozen):
    """Cost without a clock, of one image.

    ``macs`` are the multiply-accumulates of convolutions, linear layers and attention without bias
    and ``flops`` is twice that; ``uncounted`` says how often each operator that ``macs`` leaves out
    is launched. ``operators`` are the launches of an eager call, ``activations`` the elements that
    convolutions and linear layers write (Radosavovic et al., 2003.13678), ``param_bytes`` the size
    of the parameters. Bytes are moved as if nothing were fused or cached: each operator reads its
    inputs and writes its outputs once, in fp32; ``weight_bytes`` (parameters and statistics) once
    a batch, ``activation_bytes`` once an image. ``parts`` add up to all of these. ``counters``
    agree on ``macs``; ``left_out`` says of others why they could not be asked.
    """

    params: int
    macs: int
    flops: int
    uncounted: dict[str, int]
    operators: int | None = None
    activations: int | None = None
    param_bytes: int | None = None
    weight_bytes: int | None = None
    activation_bytes: int | None = None
    parts: tuple[CostPart, ...] = ()
    counters: tuple[str, ...] = ()
    left_out: dict[str, str] = Field(default_factory=dict)

    def bytes_moved(self, batch_size: int = 1) -> int | None:
        """Return the bytes that one call on ``batch_size`` images moves."""
        if self.weight_bytes is None or self.activation_bytes is None:
            return None
        return self.weight_bytes + batch_size * self.activation_bytes
