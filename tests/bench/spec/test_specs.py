"""Specifications: validated, immutable, scaled, identified."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from bench.errors import FieldError, UserError
from bench.spec.profile import ProfileSpec
from bench.spec.recipe import RECIPES, Recipe, get_recipe
from bench.spec.run import DataSpec, ModelSpec, RunSpec
from bench.spec.values import validated


def run_spec(**changes: object) -> RunSpec:
    base: dict[str, object] = {
        "model": ModelSpec(name="resnet50"),
        "data": DataSpec(),
        "recipe": get_recipe("standard"),
    }
    return validated(RunSpec, base | changes)


def test_the_reference_recipe_is_the_reference_comparisons() -> None:
    recipe = RECIPES["reference"]
    assert (recipe.epochs, recipe.batch_size, recipe.lr) == (100, 128, 0.1)
    assert (recipe.momentum, recipe.weight_decay, recipe.nesterov) == (0.9, 5e-4, False)
    assert (recipe.schedule, recipe.milestones, recipe.gamma) == ("multistep", (30, 60, 90), 0.1)
    assert (recipe.normalization, recipe.crop_padding, recipe.flip) == ("half", 0, False)
    assert not recipe.drop_last


def test_the_standard_recipe_adds_crop_flip_and_pixel_statistics_alone() -> None:
    differing = {
        key
        for key, value in RECIPES["standard"].model_dump().items()
        if value != RECIPES["reference"].model_dump()[key]
    }
    assert differing == {"name", "normalization", "crop_padding", "flip"}


@pytest.mark.parametrize(
    ("epochs", "milestones"),
    [(100, (30, 60, 90)), (200, (60, 120, 180)), (10, (3, 6, 9)), (3, (1, 2, 3)), (1, (1,))],
)
def test_milestones_scale_with_the_epochs(epochs: int, milestones: tuple[int, ...]) -> None:
    recipe = get_recipe("standard").changed(epochs=epochs)
    assert (recipe.epochs, recipe.milestones, recipe.name) == (epochs, milestones, "standard")


def test_a_changed_recipe_tells_so_in_its_name() -> None:
    assert get_recipe("standard").changed(lr=0.05, batch_size=None).name == "standard-lr=0.05"
    assert get_recipe("standard").changed(lr=0.1) == get_recipe("standard")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs: should be greater than 0 (got 0)"),
        ({"lr": -0.1}, "lr: should be greater than 0 (got -0.1)"),
        ({"lr": float("nan")}, "lr: should be a finite number (got nan)"),
        ({"batch_size": 0}, "batch_size: should be greater than 0 (got 0)"),
        ({"batch_size": 1.5}, "batch_size: should be a valid integer"),
        ({"crop_pad": 4}, "unknown key 'crop_pad'; known keys: name, epochs"),
    ],
)
def test_a_bad_hyper_parameter_is_named_with_its_value(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        get_recipe("standard").changed(**changes)  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_equal_recipes_have_equal_names_in_whatever_order_they_were_changed() -> None:
    by_file = get_recipe("standard").changed(weight_decay=1e-05, lr=0.02, schedule="cosine")
    by_options = (
        get_recipe("standard")
        .changed(schedule="cosine", lr=0.5)
        .changed(weight_decay=1e-05, lr=0.02)
    )
    assert by_file == by_options
    assert by_file.name == "standard-lr=0.02-weight_decay=1e-05-schedule=cosine"
    earlier = by_file.model_dump() | {"name": "standard-schedule=cosine-weight_decay=1e-05-lr=0.02"}
    assert validated(Recipe, earlier) == by_file


def test_a_changed_recipe_cannot_be_renamed() -> None:
    """Another name would hide in reports that a field differs."""
    with pytest.raises(UserError, match="name: a recipe is named after its base"):
        get_recipe("standard").changed(name="reference", lr=0.5)


def test_an_unknown_recipe_fails_by_listing_the_known_ones() -> None:
    with pytest.raises(UserError, match="unknown recipe 'fast'; choose from: reference, standard"):
        get_recipe("fast")
    with pytest.raises(UserError, match=r"; did you mean standard\?$"):
        get_recipe("standart")


def test_specifications_are_immutable() -> None:
    with pytest.raises(ValidationError):
        get_recipe("standard").lr = 1.0  # type: ignore[misc]


def test_a_runs_digest_changes_with_everything_that_can_change_its_result() -> None:
    changes: list[dict[str, object]] = [
        {"seed": 1},
        {"device": "cuda:0"},
        {"precision": "bf16"},
        {"runtime": "compile"},
        {"weights": "a", "weights_sha256": "00"},
        {"recipe": get_recipe("reference")},
        {"recipe": get_recipe("standard").changed(epochs=3)},
        {"model": ModelSpec(name="resnet50", stem="cifar")},
        {"data": DataSpec(train_limit=10)},
    ]
    digests = {run_spec(**change).digest() for change in changes} | {run_spec().digest()}
    assert len(digests) == len(changes) + 1


def test_a_runs_digest_does_not_depend_on_where_the_data_lies_or_what_it_is_called() -> None:
    moved = DataSpec(data_dir="/elsewhere", label="my shapes")
    assert run_spec(data=moved).digest() == run_spec().digest()


def test_a_runs_folder_names_model_stem_data_recipe_epochs_and_seed() -> None:
    name = run_spec(seed=7).folder_name()
    assert name.startswith("resnet50-imagenet-shapes-standard-e100-s7-")


def test_a_folders_name_stays_short_and_unique_however_much_of_a_recipe_is_changed() -> None:
    def name(last: int) -> str:
        recipe = get_recipe("standard").changed(milestones=(*range(1, 90), last))
        model = ModelSpec(name="resnet18", stem="cifar")
        return RunSpec(model=model, data=DataSpec(), recipe=recipe).folder_name()

    assert len(name(95)) < 200
    assert name(95) != name(96)


def test_recipes_are_equal_after_a_round_trip_through_json() -> None:
    for recipe in RECIPES.values():
        assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_messages_are_in_the_words_of_files() -> None:
    """Lists and tables, not tuples and dictionaries; the field is there for who renames it."""
    with pytest.raises(FieldError, match=r"^precisions: should be a list") as caught:
        validated(ProfileSpec, {"models": [{"name": "resnet18"}], "precisions": 3})
    assert caught.value.field == "precisions"
    with pytest.raises(FieldError, match=r"^models.0: should be a table"):
        validated(ProfileSpec, {"models": [3]})


def test_a_divisor_changes_the_folder_and_its_absence_does_not() -> None:
    """Runs from before there was one keep the folder they have."""
    model = ModelSpec(name="se_resnet18", reduction=16, se_bias=True)
    spec = RunSpec(model=model, data=DataSpec(), recipe=get_recipe("quick"))
    eights = ModelSpec(name="se_resnet18", reduction=16, se_bias=True, se_divisor=8)
    rounded = spec.model_copy(update={"model": eights})
    assert spec.digest() == "15ee1aad"
    assert rounded.digest() != spec.digest()


@pytest.mark.parametrize("arguments", [3, [1, 2], [["depth", 1], [2, 3]], True])
def test_arguments_that_are_no_table_are_refused_in_words(arguments: object) -> None:
    with pytest.raises(UserError, match="should be a table of arguments"):
        validated(ModelSpec, {"name": "timm:resnet18", "num_classes": 10, "arguments": arguments})


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("hf:./pics", "hf:{here}/pics"),
        ("hf:pics:validation", "hf:{here}/pics:validation"),
        ("hf:pics:a:b", "hf:{here}/pics:a:b"),
        ("hf:pics/../none", "hf:pics/../none"),
        ("hf:none/pics", "hf:none/pics"),
        ("folder", "folder"),
    ],
)
def test_a_record_names_a_folder_of_data_by_its_absolute_path(
    name: str, stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read in another folder, it must not stand for what lies there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics:a").mkdir()
    data = DataSpec(name=name.format(here=tmp_path), data_dir="pics")
    found = run_spec(data=data).located().data
    assert (found.name, found.data_dir) == (stored.format(here=tmp_path), f"{tmp_path}/pics")
