"""Tables, charts and the SE tax of profile records."""

from __future__ import annotations

import json
import math
import re

import pytest
import record_factory as make
from matplotlib.figure import Figure
from rich.console import Console

from bench.record.cost import CostFacts
from bench.record.profile import (
    ALLOCATOR_PEAK,
    BreakdownFacts,
    EnergyFacts,
    MachineFacts,
    MemoryFacts,
    SplitFacts,
)
from bench.report.charts.draw import draw
from bench.report.charts.profile import plans
from bench.report.derive.speed.attention_tax import taxes, twins
from bench.report.derive.speed.profile_rows import cost_rows, seconds_spent, strict
from bench.report.derive.speed.ratios import time_ratio
from bench.report.page.tables import profile_tables as tables
from bench.report.page.terminal import render
from bench.report.table.rows import profile_row
from bench.stats import times

MACHINE = MachineFacts(matmul_flops={"fp32": 200e9}, copy_bytes_per_s=20e9)


def cost(macs: int, scale: float = 1.0) -> CostFacts:
    return CostFacts(
        params=int(25e6 * scale),
        macs=macs,
        flops=2 * macs,
        uncounted={"add": 16},
        operators=int(100 * scale),
        activations=int(1e6 * scale),
        param_bytes=int(1e8 * scale),
        weight_bytes=int(1e8 * scale),
        activation_bytes=int(1e7 * scale),
    )


def profiled(name: str, call_s: float, scale: float = 1.0, **changes):
    """Return a record of a model with everything in it; 64 images of 100 M MACs."""
    facts = {
        "cost": cost(100_000_000, scale),
        "machine": MACHINE,
        "memory": MemoryFacts(peak_bytes=int(2**28 * scale), total_bytes=2**29, method="peak"),
        "sitting": "sitting-0",
        "group": "infer-fp32-b64-offline",
    }
    return make.profile_record(make.model(name), call_s=call_s, **(facts | changes))


def text(renderable: object, width: int = 80) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(renderable)
    return console.export_text()


def pair():
    return [profiled("resnet50", 0.10), profiled("se_resnet50", 0.12, scale=1.2, seed=0)]


def test_use_of_the_machine_is_derived_from_raw_figures():
    """64 images of 200 MFLOP in 0.1 s are 128 GFLOP/s, 64 % of 200; 12.8 GFLOP over 0.74 GB."""
    (row,) = cost_rows([profiled("resnet50", 0.10, noise=0.0)], price_per_hour=3.6)
    line = profile_row(row)
    assert line["throughput"] == pytest.approx(640)
    assert line["achieved_flops_per_s"] == pytest.approx(128e9)
    assert line["utilisation"] == pytest.approx(0.64)
    assert line["arithmetic_intensity"] == pytest.approx(64 * 200e6 / (1e8 + 64 * 1e7))
    assert line["price_per_million"] == pytest.approx(1e6 * 3.6 / 3600 / 640)


def test_a_training_step_is_three_forward_passes():
    """The same times in training are three times the work."""
    (row,) = cost_rows([profiled("resnet50", 0.10, noise=0.0, mode="train")])
    assert profile_row(row)["utilisation"] == pytest.approx(3 * 0.64)


def test_energy_split_and_reasons_are_told():
    """150 J for 1,000 images are 0.15 J an image; parts are medians; a reason stands for none."""
    facts = {
        "energy": EnergyFacts(joules=150, window_s=3, num_images=1000, source="a counter"),
        "split": SplitFacts(forward_s=(0.1, 0.3, 0.2), backward_s=(0.4,), update_s=(0.05,)),
    }
    line = profile_row(cost_rows([profiled("resnet50", 0.1, mode="train", **facts)])[0])
    assert line["joules_per_image"] == pytest.approx(0.15)
    assert (line["forward_ms"], line["backward_ms"]) == (pytest.approx(200), pytest.approx(400))
    line = profile_row(cost_rows([profiled("resnet50", 0.1, energy=EnergyFacts(reason="none"))])[0])
    assert (line["joules_per_image"], line["energy_reason"]) == (None, "none")


def test_compiling_is_what_the_first_call_took_longer_where_it_compiles():
    """A first call of 20 s and later ones of 0.1 s are 19.9 s of compiling; eager has none."""
    record = profiled("resnet50", 0.1, noise=0.0)
    timing = record.timing.model_copy(update={"first_call_s": 20.0, "compile_cached": True})
    slow = record.model_copy(update={"timing": timing})
    compiled = cost_rows([slow.model_copy(update={"runtime": "compile"})])
    line = profile_row(compiled[0])
    assert (line["session_compile_s"], line["session_compile_cached"]) == (
        pytest.approx(19.9),
        True,
    )
    assert any("on disk already" in note for note in tables.footnotes(compiled))
    assert profile_row(cost_rows([slow])[0])["session_compile_s"] is None


def test_a_call_that_waits_for_its_launches_is_launch_bound():
    """Calls of 100 ms whose work takes the device 60 ms are; with 95 ms they are not."""
    record = profiled("resnet50", 0.1)

    def bound(seconds: float) -> object:
        timing = record.timing.model_copy(update={"device_s": (seconds,) * 5})
        return profile_row(cost_rows([record.model_copy(update={"timing": timing})])[0])[
            "launch_bound"
        ]

    assert bound(0.06) is True
    assert bound(0.095) is False
    assert profile_row(cost_rows([record])[0])["launch_bound"] is None


def test_rows_keep_the_order_of_their_records():
    """As they were asked for, not by name."""
    records = [profiled("se_resnet50", 0.12), profiled("resnet101", 0.2), profiled("resnet50", 0.1)]
    names = [row.model.name for row in cost_rows(records)]
    assert names == ["se_resnet50", "resnet101", "resnet50"]


def test_the_base_is_the_plain_model_or_the_plain_runtime():
    """With one runtime models are compared with the plain one; with several each with its own."""
    rows = cost_rows(pair())
    bases = tables.base_rows(rows)
    assert {bases[row.key].model.name for row in rows} == {"resnet50"}
    several = [
        *pair(),
        *(profiled(n, 0.05, runtime="compile", id=n) for n in ("resnet50", "se_resnet50")),
    ]
    rows = cost_rows(several)
    bases = tables.base_rows(rows)
    assert all(bases[row.key].first.runtime == "eager" for row in rows)
    assert all(bases[row.key].model == row.model for row in rows)


def test_ratio_and_noise_floor_rest_on_the_rounds_that_both_rows_had():
    """A row that sat out every other round lends no samples to the floor of its ratio."""
    every, other = tuple(sorted(2 * tuple(range(40)))), tuple(sorted(2 * tuple(range(0, 40, 2))))
    plain, se = (
        profiled(name, 0.1, blocks=len(rounds), noise=0.05, seed=seed)
        for name, rounds, seed in (("resnet50", every, 0), ("se_resnet50", other, 1))
    )
    plain, se = (
        record.model_copy(
            update={
                "sitting": "s",
                "timing": record.timing.model_copy(update={"block_round": rounds}),
            }
        )
        for record, rounds in ((plain, every), (se, other))
    )
    base, row = cost_rows([plain, se])
    found = time_ratio(row, base)
    both = [times.by_round(r.timing.block_s, r.timing.block_iters, r.timing.block_round)
            for r in (plain, se)]  # fmt: skip
    shared = [{number: rounds[number] for number in range(0, 40, 2)} for rounds in both]
    assert found.interval.num_samples == 20
    assert found.floor == times.noise_floor([tuple(shared)])


def test_what_se_costs_is_ratios_with_intervals():
    """20 % more time in turns: a ratio of 1.2 whose interval is narrow; counts are exact."""
    rows = cost_rows(pair())
    ((model, twin),) = twins(rows)
    assert (model.name, twin.name) == ("se_resnet50", "resnet50")
    found = {tax.quantity: tax for tax in taxes(rows, model, twin)}
    assert set(found) == {
        "parameters",
        "MACs",
        "operators launched",
        "bytes moved",
        "throughput",
        "peak memory",
    }
    rate = found["throughput"]
    assert rate.ratio.contains(1 / 1.2)
    assert rate.ratio.high / rate.ratio.low < 1.05
    assert rate.differs
    assert (rate.unit, rate.full < rate.plain) == ("img/s", True)
    assert found["parameters"].ratio.estimate == pytest.approx(1.2)
    assert found["parameters"].ratio.num_samples == 1


def peak_memory(method: str, *peaks: tuple[int, int]):
    """Return the tax of peak memory; ``peaks`` are the plain and the SE model's, by process."""
    records = []
    for i, pair_of_peaks in enumerate(peaks):
        for name, peak in zip(("resnet50", "se_resnet50"), pair_of_peaks, strict=True):
            facts = MemoryFacts(peak_bytes=peak, total_bytes=peak, method=method)
            own = {"id": f"{name}-{i}", "sitting": f"sitting-{i}", "series": "series"}
            records.append(profiled(name, 0.1, memory=facts, **own))
    rows = cost_rows(records)
    ((model, twin),) = twins(rows)
    return {tax.quantity: tax for tax in taxes(rows, model, twin)}["peak memory"]


def test_memory_read_once_is_a_difference_only_where_bytes_are_counted():
    """A resident set differs from process to process: one of each shows nothing, several do."""
    mib = 2**20
    once = peak_memory("peak resident set", (100 * mib, 103 * mib))
    assert (once.ratio.estimate, once.differs) == (pytest.approx(1.03), False)
    assert once.ratio.high == math.inf
    several = [(100 * mib, 110 * mib), (102 * mib, 112 * mib), (101 * mib, 111 * mib)]
    found = peak_memory("peak resident set", *several)
    assert (found.plain, found.full) == (101, 111)
    assert found.differs
    assert found.ratio.low < 1.099 < found.ratio.high < 1.12
    counted = peak_memory(ALLOCATOR_PEAK, (100 * mib, 103 * mib))
    assert (counted.differs, counted.ratio.low) == (True, pytest.approx(1.03))
    assert not peak_memory(ALLOCATOR_PEAK, (100 * mib, 100 * mib)).differs


def test_models_without_their_twin_have_no_tax():
    """Another stem, another size or no plain model at all: nothing is compared."""
    other = profiled("se_resnet50", 0.1)
    assert twins(cost_rows([other, profiled("resnet101", 0.1)])) == []
    resized = profiled("resnet50", 0.1)
    resized = resized.model_copy(update={"model": make.model("resnet50", image_size=64)})
    assert twins(cost_rows([other, resized])) == []


def test_no_number_is_cut_off_in_a_terminal_of_80_columns():
    """Names fold; numbers stand whole, and no line is longer."""
    records = [
        profiled(name, call_s, runtime=runtime, id=f"{name}-{runtime}", seed=0)
        for name, call_s in (("resnet50", 0.1), ("se_resnet50", 0.12))
        for runtime in ("eager", "compile_channels_last")
    ]
    rows = cost_rows(records)
    shown = [tables.cost_table(rows), tables.timing_table(rows), *tables.detail_tables(rows)]
    for table in [*shown, *tables.tax_tables(rows)]:
        out = text(render(table))
        assert "…" not in out
        assert max(map(len, out.splitlines())) <= 80
    assert re.search(r"64\s+6\d\d\s+", text(render(shown[1])))
    assert "compile_channels_last" in text(render(shown[2]))  # in one piece


def test_rows_that_took_no_turns_with_their_base_are_not_said_to_have():
    """Models and runtimes of one precision take turns; another precision has turns of its own."""
    turns = [profiled("resnet50", 0.1, id="a"), profiled("resnet50", 0.08, runtime="compile")]
    other = profiled("resnet50", 0.05, id="b", precision="bf16", group="infer-bf16-b64-offline")

    def said(*records) -> str:
        notes = tables.footnotes(cost_rows(list(records)))
        return next(note for note in notes if note.startswith("× base"))

    assert "over that of resnet50 eager, timed in turns, ±" in said(*turns)
    assert "over that of resnet50 eager fp32, timed apart, ±" in said(turns[0], other)
    assert "timed in turns, other precisions apart, ±" in said(*turns, other)


def test_what_is_said_of_a_row_is_in_sight_in_a_terminal_of_80_columns():
    """With modes, runtimes and automatic batch sizes the marks still stand at the end."""
    records = [
        profiled(name, call_s, mode=mode, runtime=runtime, id=f"{name}-{mode}-{runtime}", seed=0)
        for name, call_s in (("resnet101", 0.1), ("se_resnet101", 0.12))
        for mode in ("infer", "train")
        for runtime in ("eager", "channels_last")
    ]
    changes = {"warnings": ("the machine runs on battery",), "wanted_batch_size": "auto"}
    rows = cost_rows([record.model_copy(update=changes) for record in records])
    out = text(render(tables.timing_table(rows)))
    assert max(map(len, out.splitlines())) <= 80
    assert len(re.findall(r"64\* .* a *$", out, re.MULTILINE)) == len(rows)
    assert "*  the largest batch that fits all the models" in "\n".join(tables.footnotes(rows))


def test_what_disturbed_a_row_stands_below_the_table():
    """Noise that the sitting saw is told beside the row, as are launches that hold the device."""
    record = profiled("resnet50", 0.1)
    disturbed = record.model_copy(update={"warnings": ("other work used 30 % of the cores",)})
    rows = cost_rows([disturbed])
    assert "a  other work used 30 % of the cores" in tables.footnotes(rows)
    assert re.search(r"base\s+a", text(render(tables.timing_table(rows))))


def test_a_row_that_could_not_run_says_why():
    """Its state stands in the table, its reason below."""
    failed = profiled(
        "resnet50",
        0.1,
        status="unsupported",
        timing=None,
        reason="needs a GPU",
        runtime="cudagraph",
    )
    rows = cost_rows([profiled("resnet50", 0.1), failed])
    assert "unsupported" in text(render(tables.timing_table(rows)))
    assert any("needs a GPU" in note for note in tables.footnotes(rows))


def test_doubtful_rows_are_marked_and_explained():
    """A letter in the row, its meaning in a footnote."""
    record = profiled("resnet50", 0.1)
    timing = record.timing.model_copy(update={"flags": ("unstable",)})
    rows = cost_rows([record.model_copy(update={"timing": timing})])
    notes = tables.footnotes(rows)
    assert notes[0].startswith("a  unstable: the blocks' quartiles are more than 25 %")
    assert re.search(r"\ba\s*$", text(render(tables.timing_table(rows))), re.MULTILINE)


def broken_down():
    """Return records of two models whose operators took as long, but not their calls."""
    parts = BreakdownFacts(
        seconds={"stage1": {"conv": 0.08, "se_scale": 0.02}}, num_calls=3, call_s=0.1
    )
    return [
        profiled("resnet50", 0.1, breakdown=parts),
        profiled("se_resnet50", 0.12, breakdown=parts),
    ]


def test_charts_of_profiles():
    """A roofline a precision, and where the time goes where it was broken down."""
    records = [
        *broken_down(),
        profiled("resnet50", 0.05, precision="bf16", id="bf16", machine=MACHINE.model_copy(
            update={"matmul_flops": {"bf16": 300e9}})),
    ]  # fmt: skip
    drawn = {chart.name: chart for chart in draw(plans(cost_rows(records)))}
    assert len(drawn) == 3
    assert "where-time-goes" in drawn
    assert sum(name.startswith("roofline-") for name in drawn) == 2
    assert all(chart.png.startswith(b"\x89PNG") for chart in drawn.values())


def test_where_time_goes_shares_out_a_call_as_it_was_timed():
    """Operators that took as long alone are shares of 100 and of 120 ms; SE's fifth is told."""
    figure, rows = Figure(), cost_rows(broken_down())
    (plan,) = [p for p in plans(rows) if p.name == "where-time-goes"]
    plan.draw(figure)
    calls = {row.model.name: 1e3 * row.timing.call_s.estimate for row in rows}
    assert calls == {"resnet50": pytest.approx(100, 0.02), "se_resnet50": pytest.approx(120, 0.02)}
    said = {text.get_text().strip() for text in figure.axes[0].texts}
    assert said == {f"{call:.1f} ms, SE 20 %" for call in calls.values()}


def test_a_roofline_of_many_rows_names_the_fastest_of_each_model_and_batch_size():
    """Six runtimes of two models: two names instead of twelve, the other points without."""
    records = [
        profiled(name, call_s, runtime=runtime)
        for name in ("resnet50", "se_resnet50")
        for runtime, call_s in zip("abcdef", (0.3, 0.25, 0.1, 0.28, 0.35, 0.4), strict=True)
    ]
    for shown, expected in ((records[:6], 6), (records, 2)):
        figure = Figure()
        next(plans(cost_rows(shown))).draw(figure)
        names = [text.get_text() for text in figure.axes[0].texts]
        named = [name for name in names if "resnet50" in name]
        assert len(named) == expected
        assert any(name.endswith("c") for name in named)


def test_strict_json_has_no_infinity():
    """Open ends of an interval become null."""
    found = strict({"high": math.inf, "low": [0.0, -math.inf], "name": "x", "n": 3})
    assert found == {"high": None, "low": [0.0, None], "name": "x", "n": 3}
    json.dumps(found, allow_nan=False)


def test_seconds_are_timed_warm_up_or_neither():
    """Of 10 s blocks, what is beside them, the machine's peaks and a first call (once) are told."""
    machine = MACHINE.model_copy(update={"timed_s": 0.25})
    record = profiled("resnet50", 0.1).model_copy(update={"machine": machine})
    seconds = {"stem": {"conv": 0.1, "norm": 0.05}}
    broken = BreakdownFacts(seconds=seconds, num_calls=4, call_s=0.2, timed_s=0.6)
    timing = record.timing.model_copy(update={"warmup_s": 1.0, "first_call_s": 0.5})
    beside = {
        "breakdown": broken,
        "split": SplitFacts(forward_s=(0.1, 0.1), backward_s=(0.2, 0.2), update_s=(0.05, 0.05)),
        "energy": EnergyFacts(joules=1, window_s=3.0, num_images=1, source="a counter"),
    }
    spent = seconds_spent(
        [
            record.model_copy(update={"timing": timing, **beside}),
            record.model_copy(
                update={
                    "scenario": "single_stream",
                    "timing": timing.model_copy(update={"block_s": (), "warmup_s": 0.0}),
                }
            ),
            record.model_copy(update={"timing": None}),
        ],
        total_s=10.0,
    )
    blocks = math.fsum(timing.block_s)
    assert spent["timed"] == pytest.approx(blocks + 0.85 + 0.7 + 3)
    assert spent["warmup"] == pytest.approx(1.5)
    assert spent["outside"] == pytest.approx(10 - blocks - 2.35 - 3.7)
