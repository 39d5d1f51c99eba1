"""Options that several commands share, and what turns their text into values."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import names

if TYPE_CHECKING:
    from bench.spec.run import DataSpec

EXIT_FAILED = 1
# The models of the comparison that this project is about: what is meant where none is named.
COMPARED = ("se_resnet50", "resnet50", "resnet101")
# The panels of --help, after the few options that are used most.
MODEL, DATA, RECIPE, MACHINE, OUTPUT = "Model", "Data", "Recipe", "Machine", "Output"
STATISTICS = "Statistics"

DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Where the data set's files are or go (default: the user's cache folder).",
        rich_help_panel=DATA,
    ),
]
DataName = Annotated[
    str,
    typer.Option(
        "--dataset",
        help=names.help_of(
            "cifar10, cifar100, folder, torchvision:NAME, hf:ORG/NAME, or the embedded shapes.",
            "datasets",
        ),
        autocompletion=names.datasets,
    ),
]
DataLabel = Annotated[
    str | None,
    typer.Option(
        help="What reports call the data set, e.g. 'CIFAR-10 (JPEG copy)'.", rich_help_panel=DATA
    ),
]
Labels = Annotated[
    str,
    typer.Option(help="CIFAR-100's label set: fine (100) or coarse (20).", rich_help_panel=DATA),
]
ImageSize = Annotated[
    int, typer.Option(help="Pixels a side, for --dataset folder.", rich_help_panel=DATA)
]
TrainLimit = Annotated[
    int | None,
    typer.Option(
        help="Use this many training images, balanced over the classes.", rich_help_panel=DATA
    ),
]
TestLimit = Annotated[
    int | None,
    typer.Option(
        help="Use this many test images, balanced over the classes.", rich_help_panel=DATA
    ),
]
SkipBad = Annotated[
    bool,
    typer.Option(
        "--skip-bad",
        help="Pass over images that cannot be read; they are counted and recorded.",
        rich_help_panel=DATA,
    ),
]
StemName = Annotated[
    str | None,
    typer.Option(
        "--stem",
        help="cifar (3×3, stride 1) or imagenet (7×7, stride 2, max-pool; the default of networks"
        " that have both).",
        rich_help_panel=MODEL,
    ),
]
RecipeName = Annotated[
    str,
    typer.Option(
        "--recipe",
        help="reference, standard or quick; see 'senet-bench recipes'.",
        autocompletion=names.recipes,
    ),
]
Epochs = Annotated[int | None, typer.Option(help="Epochs; the recipe's milestones scale with it.")]
LearningRate = Annotated[
    float | None, typer.Option("--lr", help="Learning rate.", rich_help_panel=RECIPE)
]
BatchSize = Annotated[
    int | None, typer.Option(help="Images a training step.", rich_help_panel=RECIPE)
]
Seed = Annotated[
    int,
    typer.Option(
        help="Seed of the weights, the order and the augmentation.", rich_help_panel=RECIPE
    ),
]
Seeds = Annotated[
    str | None,
    typer.Option(
        "--seeds",
        help="How many seeds (5), or which (0,1,7), in place of --seed.",
        rich_help_panel=RECIPE,
    ),
]
DeviceName = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
PrecisionName = Annotated[
    str, typer.Option("--precision", help="fp32, tf32, bf16 or fp16.", rich_help_panel=MACHINE)
]
TrainRuntime = Annotated[
    str,
    typer.Option(
        "--runtime",
        help="eager, channels_last, compile, cudagraph, their combinations, or auto: the fastest"
        " of a short trial.",
        rich_help_panel=MACHINE,
    ),
]
EngineName = Annotated[
    str,
    typer.Option(
        "--engine", help="fast, or plain: the usual loop, to compare with.", rich_help_panel=MACHINE
    ),
]
RecipeChanges = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change a field of the recipe, e.g. --set label_smoothing=0.1",
        rich_help_panel=RECIPE,
    ),
]
ValSplit = Annotated[
    float | None,
    typer.Option(
        help="Share of the training images to validate on (0.1 with --target).",
        rich_help_panel=DATA,
    ),
]
Target = Annotated[
    float | None,
    typer.Option(
        help="Report the seconds of training until this validation top-1, e.g. 0.94.",
        rich_help_panel=RECIPE,
    ),
]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic",
        help="Use only algorithms that repeat to the bit; on a GPU slower, on a CPU always so.",
        rich_help_panel=MACHINE,
    ),
]
TraceFile = Annotated[
    Path | None,
    typer.Option(
        "--trace",
        help="Write a Chrome trace of a few training steps to this file.",
        rich_help_panel=OUTPUT,
    ),
]
Reduction = Annotated[
    int | None, typer.Option(help="The SE block's r (default 16).", rich_help_panel=MODEL)
]
SEBias = Annotated[
    bool | None,
    typer.Option(
        "--se-bias/--no-se-bias",
        help="FC layers of the SE block with bias (default).",
        rich_help_panel=MODEL,
    ),
]
SEDivisor = Annotated[
    int | None,
    typer.Option(
        help="Round the SE block's hidden width to a multiple of this (timm's: 8).",
        rich_help_panel=MODEL,
    ),
]
SeedSd = Annotated[
    float | None,
    typer.Option(
        "--seed-sd",
        help="Points of top-1 that trainings of one model are apart (standard deviation), where"
        " no model has several seeds; each sentence that rests on it says so.",
        rich_help_panel=STATISTICS,
    ),
]
Margin = Annotated[
    float | None,
    typer.Option(
        "--margin",
        help="Points of top-1 within which two models are the same for you, e.g. 0.5.",
        rich_help_panel=STATISTICS,
    ),
]
AttentionText = Annotated[
    str | None,
    typer.Option(
        "--attention",
        help="Attention of our models: a kind (se, eca, cbam, ge_theta, …) and its options, with"
        " commas, e.g. cbam or position=pre,stages=(2,3).",
        rich_help_panel=MODEL,
    ),
]
Log = Annotated[
    str | None,
    typer.Option(
        "--log",
        help="tensorboard: write what each epoch gave for TensorBoard, into the run's folder.",
        rich_help_panel=OUTPUT,
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON alone on stdout.", rich_help_panel=OUTPUT)
]
Runs = Annotated[Path, typer.Option("--out", help="Folder of runs; each gets one of its own.")]


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
    from bench.errors import UserError

    changes: dict[str, Any] = {}
    for setting in settings or ():
        key, equals, text = setting.partition("=")
        if not (key and equals and text):
            raise UserError(f"--set takes field=value, not {setting!r}")
        try:
            changes[key] = json.loads(text)
        except ValueError:
            changes[key] = text
    return changes


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
