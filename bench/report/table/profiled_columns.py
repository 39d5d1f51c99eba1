"""The columns of what a model costs: counted for one image, and measured in one setting."""

from __future__ import annotations

from collections.abc import Callable

from bench.record.profile import TimingFacts
from bench.report.derive.speed.profile_rows import (
    compile_s,
    intensity,
    launch_bound,
    noise_words,
    split_ms,
)
from bench.report.read.profiled import CostRow
from bench.report.read.timings import Timing
from bench.report.read.trained import Measured
from bench.report.table.column import Column, Value


def _timing(of: Callable[[Timing], Value]) -> Callable[[CostRow], Value]:
    """Return what takes a value from a row's timing; None for a row that was not timed."""
    return lambda row: of(row.timing) if row.timing is not None else None


def _facts(of: Callable[[TimingFacts], Value]) -> Callable[[CostRow], Value]:
    """Return what takes a value from the timing as the row's first process recorded it."""
    return lambda row: of(row.first.timing) if row.first.timing is not None else None


def _split(part: int) -> Callable[[CostRow], Value]:
    return lambda row: found[part] if (found := split_ms(row)) else None


def _interval_method(timing: Timing) -> Value:
    call = Measured.of(timing.call_s, timing.method)
    return call.method if call.low is not None else None


def _no_energy(row: CostRow) -> Value:
    told = (p.record.energy.reason for p in row.profiles if p.record.energy)
    return next((reason for reason in told if reason), None)


COUNTED_COLUMNS: tuple[Column, ...] = (
    Column(
        "params",
        "number of trainable parameters",
        of_training=lambda c: c.record.params,
        of_profile=lambda r: r.first.cost.params,
    ),
    Column(
        "macs",
        "multiply-accumulates of convolutions, linear layers and attention, one image, no bias",
        of_training=lambda c: c.macs,
        of_profile=lambda r: r.first.cost.macs,
    ),
    Column(
        "flops",
        "2 × macs",
        of_training=lambda c: 2 * c.macs if c.macs else None,
        of_profile=lambda r: r.first.cost.flops,
    ),
    Column(
        "operators",
        "operators that an eager call launches",
        of_profile=lambda r: r.first.cost.operators,
    ),
    Column(
        "activations",
        "elements that convolutions, linear layers and attention write, one image",
        of_profile=lambda r: r.first.cost.activations,
    ),
    Column("param_bytes", "size of the parameters", of_profile=lambda r: r.first.cost.param_bytes),
    Column(
        "bytes_moved",
        "bytes that one image moves in fp32 if nothing is fused or cached",
        of_profile=lambda r: r.first.cost.bytes_moved(),
    ),
)
PROFILED_COLUMNS: tuple[Column, ...] = (
    Column("device", "device of the profile", of_profile=lambda r: r.environment.device),
    Column("device_name", "its name", of_profile=lambda r: r.environment.device_name),
    Column("num_threads", "CPU threads used", of_profile=lambda r: r.environment.num_threads),
    Column("precision", "precision of the profile", of_profile=lambda r: r.first.precision),
    Column("runtime", "runtime of the profile", of_profile=lambda r: r.first.runtime),
    Column("mode", "infer, or train for whole training steps", of_profile=lambda r: r.first.mode),
    Column(
        "scenario",
        "offline (throughput) or single_stream (latency, one image at a time)",
        of_profile=lambda r: r.first.scenario,
    ),
    Column("batch_size", "images per call", of_profile=lambda r: r.first.batch_size),
    Column(
        "wanted_batch_size",
        "auto where the batch size is the largest that fitted all the models",
        of_profile=lambda r: r.first.wanted_batch_size,
    ),
    Column(
        "throughput",
        "img/s: all timed images over all timed seconds",
        of_profile=_timing(lambda t: t.throughput),
    ),
    Column(
        "throughput_low",
        "lower end of its 95 % interval",
        of_profile=_timing(lambda t: Measured.of(t.rate, t.method).low),
    ),
    Column(
        "throughput_high",
        "upper end of its 95 % interval",
        of_profile=_timing(lambda t: Measured.of(t.rate, t.method).high),
    ),
    Column("latency_ms", "median time of one call", of_profile=_timing(lambda t: t.p50_ms)),
    Column(
        "latency_p90_ms",
        "90th percentile of the time of one call",
        of_profile=_timing(lambda t: t.p90_ms),
    ),
    Column(
        "latency_p99_ms",
        "99th percentile, from 1,000 samples on",
        of_profile=_timing(lambda t: t.p99_ms),
    ),
    Column(
        "latency_iqr_share",
        "interquartile range over the median; above 0.25 the row is unstable",
        of_profile=_timing(lambda t: t.iqr_share),
    ),
    Column("forward_ms", "median time of a training step's forward pass", of_profile=_split(0)),
    Column("backward_ms", "median time of its backward pass", of_profile=_split(1)),
    Column("update_ms", "median time of its update of the weights", of_profile=_split(2)),
    Column(
        "peak_memory_bytes",
        "peak memory of the work itself in a fresh process",
        of_profile=lambda r: r.peak_memory_bytes,
    ),
    Column(
        "joules_per_image",
        "energy of the whole device per image",
        of_profile=lambda r: r.joules_per_image,
    ),
    Column("energy_reason", "why there is no energy", of_profile=_no_energy),
    Column(
        "utilisation",
        "2 × MACs × img/s (training: 3 times that) over the best arithmetic measured",
        of_profile=lambda r: r.utilisation,
    ),
    Column(
        "achieved_flops_per_s",
        "2 × MACs × img/s (training: 3 times that)",
        of_profile=lambda r: r.achieved_flops,
    ),
    Column(
        "peak_flops_per_s",
        "the best arithmetic measured in the row's sitting, in its precision",
        of_profile=lambda r: r.peak_flops,
    ),
    Column(
        "arithmetic_intensity",
        "FLOP a byte that a call moves if nothing is fused or cached",
        of_profile=intensity,
    ),
    Column(
        "launch_bound",
        "whether a call takes a quarter longer than its work on the device",
        of_profile=launch_bound,
    ),
    Column(
        "price_per_million",
        "price of a million images at the given price per hour",
        of_profile=lambda r: r.price_per_million,
    ),
    Column(
        "cost_interval",
        "t over processes, or within one sitting: that decides nothing",
        of_profile=_timing(_interval_method),
    ),
    Column("num_blocks", "number of timed blocks", of_profile=_timing(lambda t: t.num_blocks)),
    Column(
        "num_processes",
        "number of processes that they come from",
        of_profile=_timing(lambda t: t.num_processes),
    ),
    Column(
        "session_load_s",
        "seconds to load the weights for the profile",
        of_profile=lambda r: r.first.load_s,
    ),
    Column(
        "session_build_s",
        "seconds to make the model ready for the runtime",
        of_profile=lambda r: r.first.build_s,
    ),
    Column(
        "session_compile_s",
        "seconds that the first call took beyond a later one, where it compiled",
        of_profile=compile_s,
    ),
    Column(
        "session_compile_cached",
        "whether code that an earlier process compiled was used",
        of_profile=_facts(lambda t: t.compile_cached),
    ),
    Column(
        "first_call_s", "seconds of the first call", of_profile=_facts(lambda t: t.first_call_s)
    ),
    Column("warmup_s", "seconds of warm-up after it", of_profile=_facts(lambda t: t.warmup_s)),
    Column(
        "parity_error",
        "how far the logits are off eager fp32, of the largest logit",
        of_profile=lambda r: r.first.parity.error if r.first.parity else None,
    ),
    Column(
        "parity_tolerance",
        "how far they may be",
        of_profile=lambda r: r.first.parity.tolerance if r.first.parity else None,
    ),
    Column("flags", "what makes the timing doubtful", of_profile=_timing(lambda t: t.flags)),
    Column("warnings", "what disturbed the measurement", of_profile=noise_words),
    Column(
        "status",
        "ok, or why there is no timing: unsupported, wrong, out_of_memory",
        of_profile=lambda r: r.first.status,
    ),
    Column("reason", "the same in words", of_profile=lambda r: r.first.reason),
)
RECORD_COLUMNS: tuple[Column, ...] = (
    Column(
        "torch",
        "version of torch of the profile, else of the training",
        of_training=lambda c: c.environment.packages.get("torch"),
        of_profile=lambda r: r.environment.packages.get("torch"),
    ),
    Column(
        "run_ids",
        "records that the accuracy comes from",
        of_training=lambda c: " ".join(run.record.id for run in c.runs),
    ),
    Column(
        "profile_ids",
        "records that the cost comes from",
        of_profile=lambda r: " ".join(profile.record.id for profile in r.profiles),
    ),
)
