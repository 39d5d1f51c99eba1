"""The parts of a report for those who check: every cost row, classes, conditions, commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from bench.record.environment import Environment
from bench.report.derive.findings import Findings
from bench.report.derive.per_class import class_top1, confusion_counts
from bench.report.derive.published import Beside, beside
from bench.report.derive.reproduce import profile_commands, train_command
from bench.report.derive.speed.profile_rows import doubts
from bench.report.derive.time_to import Race, Reach
from bench.report.page.blocks import Block, Code, Heading, Paragraph, Table, place, rate, table
from bench.report.page.formats import MISSING, count, number
from bench.report.read.profiled import CostRow
from bench.report.read.study import Study
from bench.report.read.trained import Cell
from bench.report.table.trained_columns import SECONDS

MAX_COST_ROWS = 200
MAX_TIMES = 100
MAX_CLASSES = 20
MAX_CLASS_CELLS = 8
MAX_COMMANDS = 60
MAX_WITHHELD = 40
MAX_CALIBRATED = 100
MAX_RACES = 6
COST_COLUMNS = (
    "model",
    "stem",
    "measured on",
    "mode",
    "scenario",
    "batch",
    "img/s (95 % CI: processes)",
    "ms p50",
    "ms p90",
    "IQR %",
    "sittings",
    "notes",
)


def _more(total: int, shown: int, what: str, where: str = "in results.csv") -> list[Block]:
    """Return a line about what is left out, when something is."""
    return [Paragraph(f"{total - shown} more {what} are {where}.")] if total > shown else []


def costs(study: Study) -> list[Block]:
    """Return every cost row, those that could not run with their reason."""
    if not study.costs:
        return []
    lines = [_cost_line(row) for row in study.costs[:MAX_COST_ROWS]]
    more = _more(len(study.costs), len(lines), "rows")
    of = f" of {len(study.costs):,}" if more else ""
    title = f"{count(len(lines), 'row')}{of}: every setting with its times and what to doubt"
    return [Heading("Cost"), table(COST_COLUMNS, lines, folded=title), *more]


def times(found: Findings) -> list[Block]:
    """Return where the time of each training went: mean seconds over its seeds."""
    trained = [cell for cell in found.study.cells if cell.train_s]
    if not trained:
        return []
    lines = [
        [
            found.labels[cell.key],
            cell.runtime,
            number(cell.train_s.value if cell.train_s else None),
            *(number(cell.seconds(name)) for name in SECONDS),
        ]
        for cell in trained[:MAX_TIMES]
    ]
    columns = ["model", "runtime", "training", *map(_without_unit, SECONDS)]
    note = "Seconds, the mean over seeds. Only training is in the times of epochs."
    more = _more(len(trained), len(lines), "trainings")
    return [Heading("Where the time went"), Paragraph(note), table(columns, lines), *more]


def _without_unit(column: str) -> str:
    return column.removesuffix("_s")


def _cost_line(row: CostRow) -> list[str]:
    record, timing = row.first, row.timing
    times = [MISSING] * 5
    if timing:
        times = [
            rate(timing),
            number(timing.p50_ms),
            number(timing.p90_ms),
            f"{100 * timing.iqr_share:.1f}",
            str(timing.num_processes),
        ]
    reason = f"{record.status}: {record.reason or ''}" if record.status != "ok" else ""
    notes = [reason, *doubts(row)]
    return [
        record.model.name,
        record.model.stem or MISSING,
        place(row),
        record.mode,
        record.scenario.replace("_", "-"),
        str(record.batch_size),
        *times,
        "; ".join(note for note in notes if note) or MISSING,
    ]


def time_to_accuracy(found: Findings) -> list[Block]:
    """Return how soon each model reached round accuracies, those that never did as censored."""
    parts: list[Block] = []
    for race in found.races[:MAX_RACES]:
        if race.targets:
            title = f"{race.dataset}: top-1 on {race.what}, {race.device}"
            parts += [Heading(title, 3), _race_table(race, found)]
    if not parts:
        return []
    note = (
        "Seconds of training alone until an accuracy was first reached: the median over seeds "
        "after Kaplan and Meier, with the first and the last that got there. Runs whose training "
        "ended before are censored: > 120 means not within 120 s. The test set is seen only once, "
        "at the end, so this is not the accuracy of the main table."
    )
    more = _more(len(found.races), MAX_RACES, "groups", "left out")
    return [Heading("Time to accuracy"), Paragraph(note), *parts, *more]


def _race_table(race: Race, found: Findings) -> Table:
    columns = ["model", "seeds", *(f"s to {100 * top1:.0f} %" for top1 in race.targets)]
    lines = [
        [
            found.labels[cell.key],
            str(len(cell.runs)),
            *(_reach(race.reach(cell, top1)) for top1 in race.targets),
        ]
        for cell in race.cells
    ]
    return table(columns, lines)


def _reach(reach: Reach) -> str:
    """Return a median with its range, or what is known of one that was not reached."""
    some = f" ({reach.num_reached} of {reach.num_runs})" if reach.num_runs > 1 else ""
    if reach.median_s is None:
        return f"> {number(reach.given_up_s)}{some}"
    if reach.given_up_s is not None:
        return f"{number(reach.median_s)}{some}"
    if reach.low_s == reach.high_s:
        return number(reach.median_s)
    return f"{number(reach.median_s)} ({number(reach.low_s)}–{number(reach.high_s)})"


def by_class(found: Findings) -> list[Block]:
    """Return calibration, accuracy by class, and the classes confused most."""
    cells = [cell for cell in found.study.cells if cell.hits is not None]
    if not cells:
        return []
    shown = cells[:MAX_CALIBRATED]
    columns = ("model", "ECE %", "NLL", "lowest class", "most confused (true → said)")
    lines = [_calibration_line(cell, found) for cell in shown]
    parts: list[Block] = [Heading("Classes and calibration"), table(columns, lines)]
    parts += _more(len(cells), len(shown), "models", "left out")
    for label, digest in found.study.datasets:
        here = [c for c in cells if (c.dataset, c.digest) == (label, digest)]
        if here and len(_classes(here[0])) <= MAX_CLASSES:
            parts += [Heading(f"Top-1 by class on {label}, %", 3), _class_table(here, found)]
    return parts


def _classes(cell: Cell) -> tuple[str, ...]:
    return cell.runs[0].record.dataset.classes


def _calibration_line(cell: Cell, found: Findings) -> list[str]:
    said = [run.predictions for run in cell.runs if run.predictions is not None]
    shares = np.array(class_top1(cell))
    worst = int(np.nanargmin(shares))
    wrong = confusion_counts(cell)
    np.fill_diagonal(wrong, 0)
    true, taken = np.unravel_index(int(wrong.argmax()), wrong.shape)
    total = confusion_counts(cell)[true].sum()
    share = 100 * wrong[true, taken] / total if total else 0.0
    return [
        found.labels[cell.key],
        f"{100 * np.mean([p.ece for p in said]):.2f}",
        f"{np.mean([p.nll for p in said]):.3f}",
        f"{_class_name(cell, worst)} ({100 * shares[worst]:.1f} %)",
        f"{_class_name(cell, int(true))} → {_class_name(cell, int(taken))} ({share:.1f} %)",
    ]


def _class_name(cell: Cell, index: int) -> str:
    names = _classes(cell)
    return names[index] if index < len(names) else str(index)


def _class_table(cells: Sequence[Cell], found: Findings) -> Table:
    ranked = sorted(cells, key=lambda c: (-(c.top1.value if c.top1 else 0.0), c.key))
    shown = ranked[:MAX_CLASS_CELLS]
    shares = [class_top1(cell) for cell in shown]
    columns = ["class", *(found.labels[cell.key] for cell in shown)]
    lines = [
        [_class_name(shown[0], i), *(f"{100 * share[i]:.1f}" for share in shares)]
        for i in range(shown[0].model.num_classes)
    ]
    return table(columns, lines)


def published(found: Findings) -> list[Block]:
    """Return published figures beside ours, comparable or why not."""
    lines = [
        line
        for cell in found.study.cells[:MAX_CALIBRATED]
        for line in _published_lines(cell, beside(cell), found)
    ]
    if not lines:
        return []
    columns = ("model", "here %", "published %", "source", "read in", "how", "comparable")
    return [Heading("Published figures"), table(columns, lines)]


def _published_lines(cell: Cell, figures: Sequence[Beside], found: Findings) -> list[list[str]]:
    here = f"{100 * cell.top1.value:.2f}" if cell.top1 else MISSING
    return [
        [
            found.labels[cell.key],
            here,
            f"{100 * figure.published.top1:.2f}",
            figure.published.source.name,
            figure.published.source.where,
            f"{figure.published.told}; {figure.published.source.training}",
            f"no: {'; '.join(figure.why_not)}" if figure.why_not else "yes",
        ]
        for figure in figures
    ]


def conditions(study: Study) -> list[Block]:
    """Return what was trained and measured where, one line for each environment."""
    found = [("trained", cell.environment) for cell in study.cells]
    found += [("profiled", row.environment) for row in study.costs]
    lines = dict.fromkeys((what, *_environment(env)) for what, env in found)
    columns = ("what", "device", "CPU", "threads", "versions", "commit")
    return [Heading("Conditions"), table(columns, list(lines))] if lines else []


def _environment(env: Environment) -> tuple[str, ...]:
    software = [f"{name} {env.packages.get(name, '?')}" for name in ("torch", "torchvision")]
    commit = (env.commit or "unknown")[:12] + (" with changes" if env.dirty else "")
    return (
        f"{env.device}: {env.device_name}",
        env.cpu_model,
        str(env.num_threads),
        ", ".join([f"Python {env.python}", *software]),
        commit,
    )


def not_comparable(found: Findings) -> list[Block]:
    """Return the pairs that were not compared, grouped by what differs."""
    withheld = found.pairs.withheld
    if not withheld:
        return []
    reasons = Counter("; ".join(map(str, pair.mismatches)) for pair in withheld)
    example = {"; ".join(map(str, p.mismatches)): p for p in reversed(withheld)}
    lines = [
        [
            reason,
            str(count),
            f"{found.labels[example[reason].first.key]} / "
            f"{found.labels[example[reason].second.key]}",
        ]
        for reason, count in reasons.most_common(MAX_WITHHELD)
    ]
    more = _more(len(reasons), len(lines), "reasons", "left out")
    columns = ("what differs", "pairs", "for example")
    title = f"{count(len(withheld), 'pair')}, by what differs"
    return [Heading("Not comparable"), table(columns, lines, folded=title), *more]


def set_aside(found: Findings) -> list[Block]:
    """Return what was found and not used, and why."""
    if not found.set_aside:
        return []
    lines = [(s.path, s.reason) for s in found.set_aside]
    return [Heading("Set aside"), table(("file", "why"), lines)]


def reproduce(found: Findings) -> list[Block]:
    """Return the command behind each row."""
    trained = [train_command(cell) for cell in found.study.cells]
    measured = profile_commands(found.study.costs)
    parts: list[Block] = [Heading("How to reproduce each row")]
    if any("--data-dir DATA" in command for command in trained):
        parts.append(Paragraph("DATA stands for the folder of the data set."))
    for commands in (trained, measured):
        if commands:
            parts.append(Code(tuple(commands[:MAX_COMMANDS])))
            parts += _more(len(commands), MAX_COMMANDS, "commands", "like these")
    return parts
