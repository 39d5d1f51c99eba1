"""The tables of a profile: counts, times, use of the machine, and what SE costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bench.record.profile import FLAGS
from bench.report.derive.conditions import OF_PRECISION
from bench.report.derive.speed import attention_tax
from bench.report.derive.speed.profile_rows import launch_bound, noise_words
from bench.report.derive.speed.ratios import APART, Ratio, time_ratio
from bench.report.escape import shortened
from bench.report.page.blocks import Table, table
from bench.report.page.formats import MISSING, number, ratio
from bench.report.read.models import attention_title, kind
from bench.report.read.profiled import CostRow
from bench.report.read.timings import ONE_SITTING
from bench.report.table.column import Value
from bench.report.table.rows import Row, profile_row
from bench.spec.run import ModelSpec

_FACETS = ("device", "stem", "image_size", "num_classes", "mode", "precision", "runtime")


def cost_table(rows: Sequence[CostRow]) -> Table:
    """Return what each model costs whatever the device: one image, no clock."""
    columns = ("model", "stem", "px", "params M", "MACs M", "operators", "activ. M", "MB moved")
    models = {row.model: row for row in rows}.values()
    lines = [_cost_line(profile_row(row)) for row in models]
    return table(columns, lines, title="Without a clock, one image", words=columns[:2])


def _cost_line(line: Row) -> list[str]:
    def scaled(name: str, factor: float, form: str) -> str:
        value = line[name]
        return format(value * factor, form) if isinstance(value, int) and value else MISSING

    return [
        str(line["model"]),
        str(line["stem"] or MISSING),
        str(line["image_size"]),
        scaled("params", 1e-6, ",.3f"),
        scaled("macs", 1e-6, ",.3f"),
        scaled("operators", 1, ",.0f"),
        scaled("activations", 1e-6, ",.2f"),
        scaled("bytes_moved", 1e-6, ",.1f"),
    ]


def timing_table(rows: Sequence[CostRow]) -> Table:
    """Return the measured times; what all rows share stands in the title alone."""
    lines = [profile_row(row) for row in rows]
    facets = _varying(lines)
    names = _headings(facets)
    bases, marks = base_rows(rows), _marks(rows)
    drawn = []
    for row, line in zip(rows, lines, strict=True):
        timed = (
            (_used(line["throughput"]), _latency(line), _speed(row, bases.get(row.key)))
            if line["status"] == "ok"
            else (MISSING, str(line["status"]).replace("_", " "), MISSING)
        )
        own = " ".join(marks[word] for word in _words(row))
        drawn.append([*_names(line, facets), _batch(line), *timed, own])
    columns = (*names, "batch", "img/s", "ms", "× base", "see")
    return table(columns, drawn, title=_title(lines[0], facets), words=(*names, "see"))


def detail_tables(rows: Sequence[CostRow]) -> list[Table]:
    """Return what else was measured of the rows, by subject; nothing where it was not."""
    timed = [row for row in rows if row.timing and row.first.scenario == "offline"]
    lines = [profile_row(row) for row in timed]
    found = (_detail_table(title, columns, lines) for title, columns in _DETAILS.items())
    return [table for table in found if table is not None]


Detail = tuple[str, str, float]
# Heading, column, and what to multiply by.
_DETAILS: dict[str, tuple[Detail, ...]] = {
    "Use of the machine": (
        ("% of peak", "utilisation", 100),
        ("FLOP/byte", "arithmetic_intensity", 1),
        ("peak MiB", "peak_memory_bytes", 2**-20),
        ("mJ/img", "joules_per_image", 1e3),
        ("$/M img", "price_per_million", 1),
    ),
    "Parts of a training step, each waited for": (
        ("forward ms", "forward_ms", 1),
        ("backward ms", "backward_ms", 1),
        ("update ms", "update_ms", 1),
    ),
    "Seconds before the first timed call": (
        ("load", "session_load_s", 1),
        ("build", "session_build_s", 1),
        ("1st call", "first_call_s", 1),
        ("compile", "session_compile_s", 1),
        ("warm-up", "warmup_s", 1),
    ),
    "How far off eager fp32, of the largest logit": (
        ("off by", "parity_error", 1),
        ("allowed", "parity_tolerance", 1),
    ),
}


def _detail_table(title: str, details: Sequence[Detail], lines: Sequence[Row]) -> Table | None:
    """Return a table of the columns and rows that have numbers, None without any."""
    details = [detail for detail in details if any(line[detail[1]] is not None for line in lines)]
    lines = [line for line in lines if any(line[key] is not None for _, key, _ in details)]
    if not details:
        return None
    facets = _varying(lines)
    names = _headings(facets)
    drawn = [
        [*_names(line, facets), _batch(line), *(_used(line[key], f) for _, key, f in details)]
        for line in lines
    ]
    columns = (*names, "batch", *(heading for heading, _, _ in details))
    return table(columns, drawn, title=title, words=names)


def _headings(facets: Sequence[str]) -> tuple[str, ...]:
    return ("model", *(facet.replace("_", " ") for facet in facets))


def _names(line: Row, facets: Sequence[str]) -> list[str]:
    """Return the cells that say which row it is."""
    return [str(line[name] or MISSING) for name in ("model", *facets)]


def _batch(line: Row) -> str:
    """Return the batch size, marked where it was found out and where latency is measured."""
    auto = "*" if line["wanted_batch_size"] else ""
    return f"{line['batch_size']}{auto}{_ASKED.get(str(line['scenario']), '')}"


_ASKED = {"single_stream": " single", "end_to_end": " files", "server": " server"}


def _used(value: Value, factor: float = 1) -> str:
    return number(value * factor) if isinstance(value, int | float) else MISSING


def tax_tables(rows: Sequence[CostRow]) -> list[Table]:
    """Return one table for each model with attention whose plain twin was profiled too."""
    return [_tax_table(rows, *pair) for pair in attention_tax.twins(rows)]


def _tax_table(rows: Sequence[CostRow], model: ModelSpec, twin: ModelSpec) -> Table:
    lines = []
    for tax in attention_tax.taxes(rows, model, twin):
        values = (f"{number(value)} {tax.unit}".strip() for value in (tax.plain, tax.full))
        told = ratio(tax.ratio)
        lines.append([tax.quantity, tax.setting, *values, told if tax.differs else f"({told})"])
    title = f"What {attention_title(model)} costs: {model.name} beside {twin.title}"
    columns = ("cost", "setting", "without", "with", "ratio (95 %)")
    return table(columns, lines, title=title, words=columns[:2])


def reconciliation_table(name: str, counters: Iterable[Any]) -> Table:
    """Return each counter's total for one image (`bench.measure.count.reconcile`), taken apart."""
    lines = []
    for counter in counters:
        total = MISSING if counter.total is None else f"{counter.total:,}"
        terms = [f"{term.value:,}  {term.words}" for term in counter.terms]
        if counter.unexplained:
            terms.append(f"{counter.unexplained:,}  unexplained")
        terms.append(f"left out: {counter.leaves_out}" if counter.leaves_out else "")
        told = "\n".join(filter(None, [counter.reason, *terms]))
        lines.append([f"{counter.counter} {counter.version}", total, told])
    columns = ("counter", "total", "is the sum of")
    title = f"How counters differ: {name}, one image"
    return table(columns, lines, title=title, words=(columns[0], columns[2]))


def _varying(lines: Sequence[Row]) -> list[str]:
    return [name for name in _FACETS if len({line[name] for line in lines}) > 1]


def _title(line: Row, varying: Sequence[str]) -> str:
    told: dict[str, Callable[[Any], str]] = {
        "device": lambda value: f"{value} ({shortened(str(line['device_name']))})",
        "stem": lambda value: f"{value} stem",
        "image_size": lambda value: f"{value}×{value} px",
        "num_classes": lambda value: f"{value} classes",
    }
    known = [name for name in _FACETS if name not in varying and line[name] is not None]
    shared = [told.get(name, str)(line[name]) for name in known]
    return ", ".join(shared)


def _latency(line: Row) -> str:
    names = ("latency_ms", "latency_p90_ms", "latency_p99_ms")
    percentiles = [_used(line[name]) for name in names]
    return "/".join(percentiles if line["scenario"] == "single_stream" else percentiles[:1])


def base_rows(rows: Iterable[CostRow]) -> dict[str, CostRow]:
    """Return, by key, what each timed row is compared with: the same work in the plainest way.

    Where there are several runtimes or precisions that is the same model in the first of them;
    otherwise the first model without SE.
    """
    timed = [row for row in rows if row.timing]
    several = len({(row.first.runtime, row.first.precision) for row in timed}) > 1
    found: dict[str, CostRow] = {}
    for row in timed:
        same = [r for r in timed if _work(r, several) == _work(row, several)]
        found[row.key] = min(same, key=_plainness)
    return found


def _work(row: CostRow, several: bool) -> tuple[object, ...]:
    record, env = row.first, row.first.environment
    work = (env.device, env.freed_memory, record.mode, record.scenario, record.batch_size)
    return (*work, row.model) if several else work


def _plainness(row: CostRow) -> tuple[bool, bool, bool]:
    return kind(row.model) != "none", row.first.runtime != "eager", row.first.precision != "fp32"


def speed(row: CostRow, base: CostRow) -> Ratio | None:
    """Return how many times the throughput of ``base`` a row has."""
    return time_ratio(base, row, ignoring=("runtime", *OF_PRECISION))


def _speed(row: CostRow, base: CostRow | None) -> str:
    if base is None or row is base:
        return "base" if row.timing else MISSING
    found = speed(row, base)
    if found is None:
        return MISSING
    told = found.interval
    half = max(told.high - told.estimate, told.estimate - told.low)
    text = f"{told.estimate:.3f}" + (f" ±{half:.3f}" if half <= told.estimate else " ±?")
    return text if found.differs else f"({text})"


def _words(row: CostRow) -> list[str]:
    """Return what a reader must know of a row: why it is not timed, or what is doubtful in it."""
    if row.first.reason:
        return [shortened(row.first.reason, 300)]
    words = [f"{flag.replace('_', ' ')}: {FLAGS.get(flag, '')}" for flag in _flags(row)]
    if (row.utilisation or 0.0) > 1:
        words.append("more than the peak measured in this sitting: one of the two was disturbed")
    if launch_bound(row):
        words.append("launch-bound: the device waits for the host; a call's own work takes less")
    return [*words, *noise_words(row)]


def _flags(row: CostRow) -> tuple[str, ...]:
    return row.timing.flags if row.timing else ()


def _marks(rows: Sequence[CostRow]) -> dict[str, str]:
    """Return a letter for each thing that is said of some row."""
    words = dict.fromkeys(word for row in rows for word in _words(row))
    letters = "abcdefghijklmnopqrstuvwxyz"
    return {word: letters[i] if i < 26 else str(i) for i, word in enumerate(words)}


def footnotes(rows: Sequence[CostRow]) -> list[str]:
    """Return what a reader of the tables must know."""
    notes = [f"{mark}  {word}" for word, mark in _marks(rows).items()]
    bases = base_rows(rows)
    found = [speed(row, bases[row.key]) for row in rows if bases.get(row.key) not in (None, row)]
    floors = [r.floor for r in found if r is not None and r.floor is not None]
    if any(bases.get(row.key) not in (None, row) for row in rows):
        several = len({row.first.precision for row in rows}) > 1
        names = dict.fromkeys(_base_name(base, several) for base in bases.values())
        floor = f"; noise between turns {100 * max(floors):.1f} %" if floors else ""
        once = ONE_SITTING in {r.method for r in found if r is not None}
        covers = " within this one sitting, which decides nothing" if once else ""
        notes.append(
            f"× base: throughput over that of {', '.join(names)}, {_turns(found)}, ± its 95 %"
            f" interval{covers}{floor}; in brackets: no difference; ±?: wider than the ratio"
        )
    if any(ratio is not None and ratio.in_turns for ratio in found):
        notes.append("ratios of times are trimmed means over rounds, not quotients of two columns")
    if any(row.first.wanted_batch_size for row in rows):
        notes.append("*  the largest batch that fits all the models, halved from a start")
    if any(row.first.scenario == "end_to_end" for row in rows):
        notes.append("files: from JPEG in memory to classes, all of it waited for")
    if any(row.first.scenario == "single_stream" for row in rows):
        notes.append(
            "single: one image at a time, each waited for, p50/p90/p99; p99 from 1,000 calls on"
        )
    if any(p.record.timing and p.record.timing.compile_cached for r in rows for p in r.profiles):
        notes.append("compile: some code was on disk already, from an earlier process (see --json)")
    for state in sorted({str(row.first.environment.freed_memory) for row in rows}):
        if state.startswith("kept"):
            where = "(but where peak memory is measured)"
            notes.append(f"freed memory is {state} for the next tensor {where}")
    return notes + _energy_reasons(rows)


def _base_name(base: CostRow, several_precisions: bool) -> str:
    name = f"{base.model.name} {base.first.runtime}"
    return f"{name} {base.first.precision}" if several_precisions else name


def _turns(ratios: Iterable[Ratio | None]) -> str:
    """Return whether rows took turns with their bases; starved ones might as well not have."""
    apart = {not ratio.in_turns for ratio in ratios if ratio is not None}
    if apart == {False}:
        return "timed in turns"
    return APART if apart == {True} else "timed in turns, other precisions apart"


def _energy_reasons(rows: Sequence[CostRow]) -> list[str]:
    records = [p.record for row in rows for p in row.profiles]
    reasons = dict.fromkeys(r.energy.reason for r in records if r.energy and r.energy.reason)
    return [f"no energy: {reason}" for reason in reasons if reason]
