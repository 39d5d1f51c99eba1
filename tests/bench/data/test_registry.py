"""A data set is one function and one line; normalisations have names."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from bench.cli.app import app
from bench.data import (
    DATASETS,
    NORMALIZATIONS,
    Dataset,
    Entry,
    Progress,
    Split,
    load,
    make_dataset,
    named_normalization,
)
from bench.errors import UserError
from bench.spec.run import DataSpec


def load_stripes(spec: DataSpec, progress: Progress | None = None) -> Dataset:
    images = torch.arange(4 * 3 * 8 * 8).remainder(251).to(torch.uint8).view(4, 3, 8, 8)
    split = Split(images, torch.tensor([0, 1, 0, 1]))
    return make_dataset("stripes", spec.label or "stripes", split, split, ("up", "across"))


def test_a_data_set_is_added_by_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """It loads by name, is listed with its words, and refuses labels that it has not."""
    monkeypatch.setitem(DATASETS, "stripes", Entry(load_stripes, "drawn stripes", {"fine": 2}))
    dataset = load(DataSpec(name="stripes", train_limit=2))
    assert (len(dataset.train), dataset.classes) == (2, ("up", "across"))
    with pytest.raises(UserError, match="stripes has no coarse labels; only cifar100 has"):
        load(DataSpec(name="stripes", labels="coarse"))
    assert "drawn stripes" in CliRunner().invoke(app, ["datasets"]).output


@pytest.mark.parametrize(("limit", "told"), [(4, False), (5, True)])
def test_a_limit_that_leaves_the_set_as_it_is_is_told(
    monkeypatch: pytest.MonkeyPatch, limit: int, told: bool
) -> None:
    monkeypatch.setitem(DATASETS, "stripes", Entry(load_stripes, "drawn stripes", {"fine": 2}))
    notes = load(DataSpec(name="stripes", train_limit=limit)).notes
    said = "--train-limit 5 does nothing: stripes has 4 such images"
    assert notes == ((said,) if told else ())


def test_normalizations_are_named() -> None:
    """The set's own pixels follow from it, the others do not; unknown names list them."""
    dataset = load_stripes(DataSpec(name="stripes"))
    assert named_normalization("pixels", dataset).mean == dataset.pixel_mean
    assert named_normalization("imagenet", dataset).mean == (0.485, 0.456, 0.406)
    assert named_normalization("half", dataset).std == (0.5, 0.5, 0.5)
    with pytest.raises(UserError, match=f"choose from: {', '.join(NORMALIZATIONS)}"):
        named_normalization("inception", dataset)
