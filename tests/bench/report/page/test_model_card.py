"""A model card: metadata that Hugging Face reads, and the facts of a record."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import record_factory as make

from bench.report.write import render


@pytest.fixture
def card(tmp_path: Path) -> str:
    spec = make.model("se_resnet50")
    make.write_run(tmp_path / "runs/a", np.arange(200) < 120, spec=spec)
    make.write_profile(tmp_path / "profiles/a", make.profile_record(spec))
    render([tmp_path], tmp_path / "out", model_card=True)
    (file,) = (tmp_path / "out").glob("model-card-*.md")
    return file.read_text("utf-8")


def test_the_metadata_holds_the_accuracy_with_its_interval(card: str) -> None:
    """60 % of 200 images with Wilson's interval, by the digest of what it was tested on."""
    _, metadata, body = card.split("---\n", 2)
    (model,) = json.loads(metadata)["model-index"]
    (result,) = model["results"]
    assert result["task"]["type"] == "image-classification"
    top1 = result["metrics"][0]
    assert (top1["type"], top1["name"], top1["value"]) == ("accuracy", "top-1", 0.6)
    assert top1["args"]["interval_95"].startswith("0.5308")
    assert "| top-1 | 60.00 (53.08–66.54) |" in body


def test_the_card_tells_cost_conditions_and_the_command(card: str) -> None:
    for part in ("## Cost", "## Conditions", "## Reproduce", "senet-bench train se_resnet50"):
        assert part in card


def test_a_name_cannot_end_the_metadata(tmp_path: Path) -> None:
    evil = "a\n---\nlicense: mit"
    make.write_run(tmp_path / "a", np.ones(50), spec=make.model(evil))
    render([tmp_path], tmp_path / "out", model_card=True)
    (file,) = (tmp_path / "out").glob("model-card-*.md")
    metadata = file.read_text("utf-8").split("---\n", 2)[1]
    assert "license" not in json.loads(metadata)
