"""What turns the text of options into values."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from bench.spec.run import DataSpec


def data_spec(
    name: str,
    data_dir: Path | None,
    label: str | None,
    labels: str,
    image_size: int,
    train_limit: int | None,
    test_limit: int | None,
    skip_bad: bool = False,
) -> DataSpec:
    """Return the DataSpec of the shared data options; UserError for what is not one."""
    from bench.data import entry
    from bench.spec.run import DataSpec
    from bench.spec.values import validated

    entry(name)
    given = {
        "name": name,
        "data_dir": str(data_dir) if data_dir else None,
        "label": label,
        "labels": labels,
        "image_size": image_size,
        "train_limit": train_limit,
        "test_limit": test_limit,
        "skip_bad": skip_bad,
    }
    return validated(DataSpec, given)


def recipe_changes(settings: list[str] | None) -> dict[str, Any]:
    """Return the fields in texts like ``lr=0.1``; UserError for a text that is none."""
    from bench.spec.values import assigned

    return assigned(settings or (), "--set takes field=value")


def attention(
    text: str | None, reduction: int | None, se_bias: bool | None, se_divisor: int | None
) -> dict[str, Any]:
    """Return what is asked of a model's attention beyond its name, as one table; UserError."""
    from bench.errors import UserError
    from bench.spec.model_name import table

    asked = table(text, first="kind") if text else {}
    for option, key, value in (
        ("--reduction", "reduction", reduction),
        ("--se-bias", "bias", se_bias),
        ("--se-divisor", "divisor", se_divisor),
    ):
        if value is None:
            continue
        if key in asked:
            raise UserError(f"--attention {text} and {option} both say {key}")
        asked[key] = value
    return asked


def architecture(
    stem: str | None,
    text: str | None,
    reduction: int | None,
    se_bias: bool | None,
    se_divisor: int | None,
) -> dict[str, Any]:
    """Return what is chosen of a model beside its name."""
    return {"stem": stem, "attention": attention(text, reduction, se_bias, se_divisor)}


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given, which is those that are not None."""
    return {key: value for key, value in options.items() if value is not None}


def int_list(option: str, text: str) -> tuple[int, ...]:
    """Return the whole numbers in a comma-separated text; UserError names the option."""
    from bench.errors import UserError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"{option} takes whole numbers separated by commas, not {text!r}") from None


def name_list(text: str) -> tuple[str, ...]:
    """Return the different names in a comma-separated text."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",")))


def batch_sizes(text: str) -> tuple[int | str, ...]:
    """Return whole numbers and the word auto."""
    from bench.errors import UserError

    sizes: list[int | str] = []
    for part in name_list(text):
        if part != "auto" and not re.fullmatch(r"0*[1-9][0-9]{0,8}", part, re.ASCII):
            raise UserError(
                "--batch-size takes whole numbers from 1 to 999999999 and auto, with commas,"
                f" not {part!r}"
            )
        sizes.append(part if part == "auto" else int(part))
    return tuple(dict.fromkeys(sizes))


def seed_list(text: str) -> tuple[int, ...]:
    """Return the seeds in a text: ``5`` is five of them from 0 on, ``0,1,7`` are these three."""
    from bench.errors import UserError

    seeds = int_list("--seeds", text)
    if len(seeds) > 1:
        return seeds
    if seeds[0] < 1:
        raise UserError(f"--seeds takes how many (5) or which (0,1,2), not {text!r}")
    return tuple(range(seeds[0]))


def seeds_of(seed: int, seeds: str | None) -> tuple[int, ...]:
    """Return the seeds to train with; UserError where both options name some."""
    from bench.errors import UserError

    if seeds is None:
        return (seed,)
    if seed:
        raise UserError("--seed and --seeds both name seeds; give one of them")
    return seed_list(seeds)


def refuse_contradictions(changes: list[str] | None, options: dict[str, Any]) -> None:
    """Raise UserError where ``--set`` and an option of its own give a field two values."""
    from bench.errors import UserError

    told = recipe_changes(changes)
    for field, value in options.items():
        if field in told and told[field] != value:
            option = f"--{field.replace('_', '-')}"
            raise UserError(f"{option} {value} and --set {field}={told[field]} contradict")


def seconds_since_start() -> float:
    """Return how long this process has been there, its imports included."""
    if hasattr(time, "CLOCK_BOOTTIME"):  # Linux, where psutil adds up to a second of rounding
        ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
        started_s = int(ticks) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s
    import psutil

    return time.time() - psutil.Process().create_time()


def print_json(value: Any) -> None:
    """Print ``value`` as strict JSON, alone, on stdout."""
    typer.echo(json.dumps(value, allow_nan=False, indent=2, ensure_ascii=False))


def positive_points(option: str, points: float | None) -> float | None:
    """Return percentage points as a fraction; UserError for what is no positive number of them."""
    from bench.errors import UserError

    if points is None:
        return None
    if not 0 < points <= 100:
        raise UserError(f"{option} takes percentage points above 0 and up to 100, not {points:g}")
    return points / 100
