"""Published figures stand beside ours with every reason against comparing them."""

import pytest
import record_factory as make

from bench.report.derive.published import beside, is_copy_of, is_of, published_gains
from bench.report.read.load import LoadedRun
from bench.report.read.published import published
from bench.report.read.trained import Cell
from bench.spec.recipe import RECIPES
from bench.spec.run import DataSpec
from senet.attention import Attention
from senet.catalogue import facts, is_known


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
    figures = [b for b in beside(cell(**facts)) if b.published.source.name == "PappaLaity/SENet-50"]
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
    assert beside(cell("resnet44", "cifar", "CIFAR-10")) == []


def test_best_on_test_is_never_comparable():
    """Figures chosen on the test set carry that reason whatever we do."""
    (figure,) = beside(cell("se_resnet50", "cifar", "CIFAR-100"))[-1:]
    assert figure.published.source.name == "weiaicunzai/pytorch-cifar100"
    assert figure.published.top1 == pytest.approx(1 - 0.2142)
    assert "best epoch chosen on the test set" in figure.why_not


@pytest.mark.parametrize(
    ("source", "dataset", "name", "options", "top1"),
    [
        ("Hu et al., 1709.01507", "CIFAR-10", "se_preact_resnet110", {}, 94.79),
        ("Hu et al., 1709.01507", "CIFAR-100", "se_wrn16_8", {}, 80.86),
        ("Hu et al., 1709.01507, ablations", "ImageNet", "se_resnet50", {"reduction": 4}, 77.75),
        ("Hu et al., 1709.01507, ablations", "ImageNet", "se_resnet50", {"stages": (3,)}, 77.32),
        ("osmr/imgclsmob", "CIFAR-100", "se_resnet56", {}, 77.06),
        ("Wang et al., 1910.03151 (ECA)", "ImageNet", "eca_resnet50", {}, 77.48),
        ("Woo et al., 1807.06521 (CBAM)", "ImageNet", "cbam_resnet101", {}, 78.49),
        ("Hu et al., 1810.12348 (GE)", "ImageNet", "ge_theta_plus_resnet50", {}, 78.12),
        ("mmpretrain, CIFAR", "CIFAR-10", "resnet18", {}, 94.82),
        ("timm, recipe A3", "ImageNet", "se_resnet50", {}, 77.028),
    ],
)
def test_figures_are_what_their_sources_say(source, dataset, name, options, top1):
    """One figure of each source, written out: errors are turned into accuracies."""
    (figure,) = [
        p
        for p in published()
        if (p.source.name, p.dataset, p.model) == (source, dataset, name)
        and dict(p.attention) == options
    ]
    assert 100 * figure.top1 == pytest.approx(top1)


def test_no_two_figures_are_alike_and_each_says_where_it_stands():
    """Source, model, stem, data set and options name one figure of a network that we have."""
    keys = [(p.source.name, p.model, p.stem, p.dataset, p.attention) for p in published()]
    assert len(keys) == len(set(keys)) > 120
    for figure in published():
        assert 0.4 < figure.top1 < (figure.top5 or 1) <= 1
        assert is_known(figure.model)
        assert figure.source.where
        assert figure.source.url.startswith("https://")
        Attention(facts(figure.model).attention, **dict(figure.attention))  # refuses nonsense


def test_a_figure_is_of_the_model_that_has_its_options():
    """r = 4 is beside r = 4, the usual r = 16 beside none of the ablations but its own."""
    names = []
    for reduction in (4, 16):
        spec = make.model("se_resnet50", "imagenet", reduction=reduction, image_size=224)
        names.append({p.attention for p in published() if is_of(spec, p)})
    assert names == [{(("reduction", 4),)}, {()}]


def test_gains_are_differences_inside_one_source():
    """SE-WRN-16-8 on CIFAR-100: 20.43 - 19.14; no gain where plain and SE had two schedules."""
    gains = {
        (g.full.source.name, g.full.dataset, g.full.model, g.full.attention): g.points
        for g in published_gains()
    }
    paper = "Hu et al., 1709.01507"
    assert gains[paper, "CIFAR-100", "se_wrn16_8", ()] == pytest.approx(0.0129)
    assert gains["osmr/imgclsmob", "CIFAR-10", "se_preact_resnet110", ()] == pytest.approx(-0.0068)
    assert not [key for key in gains if key[0].startswith("mmpretrain, ImageNet")]
    assert not [key for key in gains if key[0] == f"{paper}, ablations"]
