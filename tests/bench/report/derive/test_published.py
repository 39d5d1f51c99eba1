"""Published figures stand beside ours with every reason against comparing them."""

import pytest
import record_factory as make

from bench.report.derive.published import PUBLISHED, beside, is_copy_of
from bench.report.read.load import LoadedRun
from bench.report.read.trained import Cell
from bench.spec.recipe import RECIPES
from bench.spec.run import DataSpec


def cell(name, stem, label, recipe="reference", epochs=100, **changes):
    plan = RECIPES[recipe].with_epochs(epochs)
    record = make.run_record(
        make.model(name, stem), data=make.dataset(label=label), recipe=plan, **changes
    )
    return Cell("key", (LoadedRun(record, "run.json", None),))


def test_the_same_training_on_the_same_data_is_comparable():
    """ResNet-50, ImageNet stem, reference recipe, 100 epochs on CIFAR-10: 80.05 %."""
    first = beside(cell("resnet50", "imagenet", "CIFAR-10"))[0]
    assert first.why_not == ()
    assert first.published.top1 == 0.8005


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"label": "CIFAR-10 (JPEG copy)"}, "data are CIFAR-10 (JPEG copy), not CIFAR-10"),
        ({"epochs": 3}, "3 epochs here, 100 there"),
        ({"recipe": "standard"}, "recipe standard here, reference there"),
        ({"stem": "cifar"}, "cifar stem here, imagenet stem there"),
        ({"precision": "bf16"}, "precision bf16 here"),
    ],
)
def test_each_difference_is_a_reason_against(changes, why):
    """What is not the same is named."""
    facts = {"name": "resnet50", "stem": "imagenet", "label": "CIFAR-10"} | changes
    figures = [b for b in beside(cell(**facts)) if b.published.source == "PappaLaity/SENet-50"]
    assert figures[0].why_not == (why,)


def test_a_part_of_the_images_is_not_comparable():
    """A subset says so."""
    record = make.run_record(
        make.model("resnet50", "imagenet"),
        data=make.dataset(label="CIFAR-10"),
        recipe=RECIPES["reference"],
    )
    limited = record.spec.model_copy(update={"data": DataSpec(name="cifar10", train_limit=100)})
    run = LoadedRun(record.model_copy(update={"spec": limited}), "run.json", None)
    assert beside(Cell("key", (run,)))[0].why_not == ("a part of the images here",)


def test_other_data_and_other_models_have_no_figure():
    """CIFAR-100 is not a copy of CIFAR-10, and shapes have never been published."""
    assert is_copy_of("CIFAR-10 (JPEG copy)", "CIFAR-10")
    assert is_copy_of("cifar 10", "CIFAR-10")
    assert not is_copy_of("CIFAR-100", "CIFAR-10")
    assert not is_copy_of("My CIFAR-10", "CIFAR-10")
    assert beside(cell("resnet50", "imagenet", "Shapes")) == []
    assert beside(cell("resnet34", "cifar", "CIFAR-10")) == []


def test_best_on_test_is_never_comparable():
    """Figures chosen on the test set carry that reason whatever we do."""
    chosen = [p for p in PUBLISHED if p.source == "weiaicunzai/pytorch-cifar100"]
    assert len(chosen) == 6
    assert all(p.caveats == ("best epoch chosen on the test set",) for p in chosen)
    assert {p.model: round(1 - p.top1, 4) for p in chosen}["se_resnet50"] == 0.2142


def test_no_two_figures_are_alike():
    """Model, stem, data set and source name one figure."""
    keys = [(p.source, p.model, p.stem, p.dataset) for p in PUBLISHED]
    assert len(keys) == len(set(keys))
    assert all(0 < p.top1 < (p.top5 or 1) < 1 or p.top5 is None for p in PUBLISHED)
