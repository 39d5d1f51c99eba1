"""Options that several commands share; `arguments` turns their text into values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import names

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
