"""Write report.md: the main table, the costs, the conditions, and what was set aside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.record import Environment
from bench.report import escape
from bench.report.headline import Headline, headlines
from bench.report.study import Cell, CostRow, Measured, Study, has_se

MAX_COST_ROWS = 200

MAIN_COLUMNS: dict[str, str] = {
    "model": "name of the model",
    "stem": "cifar: 3×3, stride 1; imagenet: 7×7, stride 2, then max-pool",
    "SE": "the SE block's reduction ratio, or – without SE blocks",
    "data": "data set that the model was trained and tested on",
    "recipe": "training recipe",
    "epochs": "epochs trained",
    "seeds": "runs that differ in the seed alone; values are their means",
    "top-1 % (95 % CI)": (
        "test images whose first prediction is right, after the last epoch; "
        "Wilson's interval for one seed, Student's t over several"
    ),
    "top-5 %": "test images with the label among the five best predictions",
    "params M": "trainable parameters, millions",
    "MACs M": "multiply-accumulates of convolutions and linear layers for one image, millions",
    "FLOPs M": "2 × MACs",
    "epoch s": "seconds of one training epoch, training alone (median)",
    "img/s": "throughput at the batch size behind the @, input already on the device",
    "ms @1": "median latency of one image (single-stream)",
    "measured on": "device, precision and runtime of img/s and ms",
}


def report(study: Study, charts: Sequence[tuple[str, str]] = ()) -> str:
    """Return report.md; ``charts`` are (title, file name) of the images beside it."""
    sections = [
        "# senet-bench report",
        _counts(study),
        "## Results",
        main_table(study),
        *_charts(charts),
        *_costs(study),
        *_conditions(study),
        *_set_aside(study),
        "## Columns",
        definitions(MAIN_COLUMNS),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _counts(study: Study) -> str:
    where = ", ".join(escape.markdown(place) for place in study.looked_in)
    found = f"{study.num_runs} runs and {study.num_profiles} profiles from {where}."
    aside = len(study.set_aside)
    return found + (f" {aside} set aside, [listed below](#set-aside)." if aside else "")


def table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; cells must be escaped already."""
    ruled = [" | ".join(columns), " | ".join("---" for _ in columns)]
    return "\n".join(f"| {line} |" for line in [*ruled, *(" | ".join(cells) for cells in lines)])


def main_table(study: Study) -> str:
    """Return the main table, as it also stands in the README."""
    return table(list(MAIN_COLUMNS), [_main_line(headline) for headline in headlines(study)])


def definitions(columns: dict[str, str]) -> str:
    """Return what each column means, as a list."""
    return "\n".join(f"- **{escape.markdown(name)}**: {what}" for name, what in columns.items())


def _main_line(headline: Headline) -> list[str]:
    model, cell, row = headline.model, headline.cell, headline.row
    params = row.first.cost.params if row else cell.runs[0].record.params if cell else None
    return [
        escape.markdown(model.name),
        model.stem,
        f"r={model.reduction}" if model.reduction else "yes" if has_se(model) else "–",
        *_training(cell),
        millions(params),
        millions(row.first.cost.macs if row else None),
        millions(row.first.cost.flops if row else None),
        number(cell.epoch_wall_s if cell else None),
        _throughput(headline.offline),
        _latency(headline.single),
        place(row) if row else "–",
    ]


def _training(cell: Cell | None) -> list[str]:
    if cell is None:
        return ["–"] * 6
    seeds = len(cell.runs)
    return [
        escape.markdown(cell.dataset),
        escape.markdown(cell.recipe.name),
        str(cell.recipe.epochs) if cell.runs[0].record.epochs else "–",
        "1 (exploratory)" if seeds == 1 else str(seeds),
        percent(cell.top1),
        percent(cell.top5, ends=False),
    ]


def percent(measured: Measured | None, ends: bool = True, digits: int = 2) -> str:
    """Return a fraction in per cent with its interval: ``94.55 (94.09–94.98)``."""
    if measured is None:
        return "–"
    value = f"{100 * measured.value:.{digits}f}"
    if not ends or measured.low is None or measured.high is None:
        return value
    low, high = (f"{100 * end:.{digits}f}" for end in (measured.low, measured.high))
    return f"{value} ({low}–{high})"


def millions(count: int | None) -> str:
    """Return a count in millions with as many digits as tell models apart."""
    return "–" if count is None else f"{count / 1e6:,.2f}"


def number(value: float | None) -> str:
    """Return a measured number with three significant digits, whole from 100 on."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _throughput(row: CostRow | None) -> str:
    if row is None or row.timing is None:
        return "–"
    return f"{number(row.timing.throughput)} @{row.first.batch_size}{_doubt(row)}"


def _latency(row: CostRow | None) -> str:
    return "–" if row is None or row.timing is None else number(row.timing.p50_ms) + _doubt(row)


def _doubt(row: CostRow) -> str:
    """Return a mark for a timing that is not to be relied on."""
    return " (unstable)" if row.timing and row.timing.iqr_share > 0.25 else ""


def place(row: CostRow) -> str:
    """Return device, precision and runtime in one cell."""
    env = row.environment
    name = f" ({env.device_name})" if env.device_name.lower() != env.device else ""
    return escape.markdown(f"{env.device}{name}, {row.first.precision}, {row.first.runtime}")


def _charts(charts: Sequence[tuple[str, str]]) -> list[str]:
    if not charts:
        return []
    return ["## Charts", *(f"![{escape.markdown(title)}]({name})" for title, name in charts)]


COST_COLUMNS = (
    "model",
    "stem",
    "measured on",
    "mode",
    "scenario",
    "batch",
    "img/s",
    "ms p50",
    "ms p90",
    "IQR %",
    "blocks",
    "notes",
)


def _costs(study: Study) -> list[str]:
    if not study.costs:
        return []
    shown = study.costs[:MAX_COST_ROWS]
    rest = len(study.costs) - len(shown)
    more = f"{rest} more rows are in results.csv." if rest else ""
    return ["## Cost", table(COST_COLUMNS, [_cost_line(row) for row in shown]), more]


def _cost_line(row: CostRow) -> list[str]:
    record, timing = row.first, row.timing
    times = ["–"] * 5
    if timing:
        times = [
            number(timing.throughput),
            number(timing.p50_ms),
            number(timing.p90_ms),
            f"{100 * timing.iqr_share:.1f}",
            str(timing.num_blocks),
        ]
    reason = f"{record.status}: {record.reason or ''}" if record.status != "ok" else ""
    notes = [reason, *(timing.flags if timing else ())]
    return [
        escape.markdown(record.model.name),
        record.model.stem,
        place(row),
        record.mode,
        record.scenario.replace("_", "-"),
        str(record.batch_size),
        *times,
        escape.markdown("; ".join(note for note in notes if note)) or "–",
    ]


def _conditions(study: Study) -> list[str]:
    """Return what was trained and measured where, one line for each environment."""
    found = [("trained", cell.environment) for cell in study.cells]
    found += [("profiled", row.environment) for row in study.costs]
    lines = dict.fromkeys((what, *_environment(env)) for what, env in found)
    columns = ("what", "device", "CPU", "threads", "versions", "commit")
    return ["## Conditions", table(columns, lines)] if lines else []


def _environment(env: Environment) -> tuple[str, ...]:
    software = [f"{name} {env.packages.get(name, '?')}" for name in ("torch", "torchvision")]
    commit = (env.commit or "unknown")[:12] + (" with changes" if env.dirty else "")
    cells = (
        f"{env.device}: {env.device_name}",
        env.cpu_model,
        str(env.num_threads),
        ", ".join([f"Python {env.python}", *software]),
        commit,
    )
    return tuple(escape.markdown(cell) for cell in cells)


def _set_aside(study: Study) -> list[str]:
    if not study.set_aside:
        return []
    lines = ((escape.markdown(s.path), escape.markdown(s.reason)) for s in study.set_aside)
    return ["## Set aside", table(("file", "why"), lines)]
