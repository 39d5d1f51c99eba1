"""Experiments: presets and TOML files, validated before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import UserError
from bench.execute.experiment import models
from bench.report.read.models import plain_twin
from bench.report.read.published import published
from bench.spec.experiment import PRESETS, load_experiment, parse_experiment
from senet.attention import KINDS, Attention
from senet.catalogue import facts

MODELS = 'name = "mine"\nmodels = ["resnet18"]\n'


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_named_after_themselves(name: str) -> None:
    assert load_experiment(name).name == name


def test_the_reference_preset_has_the_confounded_stems_of_the_comparison() -> None:
    experiment = load_experiment("reference")
    assert [(entry.name, entry.stem) for entry in experiment.entries()] == [
        ("se_resnet50", "cifar"),
        ("resnet50", "imagenet"),
        ("resnet101", "imagenet"),
    ]
    assert (experiment.recipe.name, experiment.data.name) == ("reference", "cifar10")


def test_the_matched_preset_crosses_every_model_with_both_stems() -> None:
    names = {(entry.name, entry.stem) for entry in load_experiment("matched").entries()}
    models = ("se_resnet50", "resnet50", "resnet101")
    assert names == {(model, stem) for model in models for stem in ("cifar", "imagenet")}


@pytest.mark.parametrize("name", ["paper-cifar", "rivals"])
def test_every_network_of_a_preset_stands_beside_the_same_one_without_attention(name: str) -> None:
    """Else its attention's gain could not be told; three seeds, because one decides nothing."""
    experiment = load_experiment(name)
    found = models(experiment, None)
    assert {plain_twin(model) for model in found} - {None} <= set(found)
    assert len(experiment.seeds) == 3
    assert {model.stem for model in found} == {"cifar"}


def test_the_rivals_cross_every_attention_with_depth() -> None:
    """All eight on three depths, four on two widths."""
    crossed = {
        (facts(m.name).base, facts(m.name).attention)
        for m in models(load_experiment("rivals"), None)
    }
    for base in ("resnet20", "resnet56", "resnet110"):
        assert {kind for name, kind in crossed if name == base} == set(KINDS)
    for base in ("wrn16_4", "wrn16_8"):
        assert {kind for name, kind in crossed if name == base} == {"none", "se", "eca", "cbam"}


def test_the_ablations_are_those_of_the_paper() -> None:
    """Every figure of its tables 10 to 16 has a model, and the plain network is beside them."""
    found = models(load_experiment("ablations"), None)
    changed = {tuple(sorted(m.attention.changes().items())) for m in found if m.attention}
    paper = {p.attention for p in published() if p.source.name.endswith("ablations")}
    assert changed == paper
    assert found[0].name == "resnet50"
    assert len(found) == 17


def test_a_model_of_a_file_takes_its_se_blocks_options() -> None:
    text = 'name = "mine"\nmodels = [{ name = "se_resnet18", reduction = 8, se_divisor = 8 }]\n'
    (model,) = models(parse_experiment(text, "x"), None)
    assert model.attention == Attention("se", reduction=8, bias=True, divisor=8)


def test_a_file_can_change_a_named_recipe() -> None:
    text = MODELS + '[recipe]\nbase = "standard"\nepochs = 10\nlr = 0.05\n'
    recipe = parse_experiment(text, "x").recipe
    assert (recipe.name, recipe.lr, recipe.milestones) == ("standard-lr=0.05", 0.05, (3, 6, 9))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name = [", "x is not TOML"),
        ('name = "mine"', "models"),
        (MODELS + "colour = 1", "unknown key 'colour'; known keys: name, description, models"),
        (MODELS + "[data]\nfolder = 1", "unknown key 'data.folder'; known keys: name, data_dir"),
        (
            MODELS + "[profile]\nbatchsizes = [1]",
            "'profile.batchsizes'; known keys: repeat",
        ),
        ('name = "x"\nmodels = [{ name = "resnet18", steam = "x" }]', "steam'; known keys: name"),
        (MODELS + "[recipe]\nlearning_rate = 1", "recipe: unknown key 'learning_rate'"),
        (MODELS + "[recipe]\nlr = -1.0", "recipe: lr: should be greater than 0"),
        (MODELS + '[recipe]\nbase = "x"', "unknown recipe 'x'; choose from: reference"),
        (MODELS + "recipe = 3", "recipe: should be a table"),
        (MODELS + 'seeds = "0"', "seeds: should be a list (got '0')"),
        (MODELS + "seeds = []", "seeds: should not be empty"),
        (MODELS.replace("name", "nam"), "unknown key 'nam'; known keys: name"),
        (MODELS.replace('name = "mine"', ""), "name: is missing"),
        (MODELS + '[recipe]\nname = "reference"', "recipe: name: a recipe is named after its base"),
        (MODELS + 'stems = ["vgg"]', "stems.0: should be 'cifar' or 'imagenet'"),
        (MODELS.replace("mine", "../mine"), "name"),
        (MODELS + "[profile]\nbatch_sizes = [0]", "profile.batch_sizes.0: should be greater than"),
        (MODELS + "seeds = [" + "1" * 5000 + "]", "x is not TOML: Exceeds the limit"),
        (".".join("a" * 30_000) + " = 1", "a key of more than 50 parts"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_the_key(text: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_experiment(text, "x")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown preset 'fair'; choose quickstart, reference"):
        load_experiment("fair")
    with pytest.raises(UserError, match=r"two models or more; did you mean quickstart\?$"):
        load_experiment("quikstart")
    with pytest.raises(UserError, match=r"cannot read .*none.toml: No such file"):
        load_experiment(str(tmp_path / "none.toml"))


def test_a_file_that_would_be_read_for_minutes_is_no_experiment(tmp_path: Path) -> None:
    path = tmp_path / "big.toml"
    path.write_text("# \n" * 2**19)
    with pytest.raises(UserError, match=r"big\.toml: larger than 1 MiB"):
        load_experiment(str(path))
