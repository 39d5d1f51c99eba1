"""Images are prepared as the weights' own library prepares them, image for image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torchvision import models as torchvision_models
from typer.testing import CliRunner

from bench import data
from bench.cli.app import app
from bench.compute import foreign
from bench.compute.model import identify, sketch
from bench.record.read_write import read_record
from bench.spec.preprocessing import Preprocessing
from bench.spec.run import DataSpec


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs' worth of sizes: wide, tall, square and small, JPEG and PNG."""
    root = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    sizes = [(90, 61), (50, 120), (64, 64), (33, 40), (200, 150), (75, 75)]
    for split in ("train", "val"):
        for label in ("cat", "dog", "owl"):
            (root / split / label).mkdir(parents=True)
            for number, (width, height) in enumerate(sizes):
                smooth = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
                image = Image.fromarray(smooth).resize((width, height), Image.Resampling.BICUBIC)
                suffix = "png" if number % 2 else "jpg"
                image.save(root / split / label / f"{number}.{suffix}")
    return root


def by_timm(root: Path, config: dict[str, Any]) -> torch.Tensor:
    """Return the test images as timm's own validation prepares them, (N, 3, H, W)."""
    from timm.data import create_dataset, create_loader

    dataset = create_dataset("", root=str(root), split="val")
    loader = create_loader(
        dataset,
        input_size=config["input_size"],
        batch_size=4,
        use_prefetcher=False,
        interpolation=config["interpolation"],
        mean=config["mean"],
        std=config["std"],
        crop_pct=config["crop_pct"],
        crop_mode=config["crop_mode"],
        num_workers=0,
    )
    return torch.cat([images for images, _ in loader])


def here(root: Path, name: str, size: int) -> torch.Tensor:
    """Return the test images as this project prepares them for a model's own weights."""
    spec = DataSpec(name="folder", data_dir=str(root), image_size=size)
    spec = foreign.prepared(spec, sketch(name), "pretrained")
    assert spec.preprocessing is not None
    dataset = data.load(spec, None)
    mean, std = (
        torch.tensor(values).view(3, 1, 1)
        for values in (spec.preprocessing.mean, spec.preprocessing.std)
    )
    return (dataset.test.images.float() / 255 - mean) / std


@pytest.mark.parametrize(
    "name",
    [
        "resnet18.a1_in1k",  # bicubic, 0.95 of 288 px in the test
        "mobilenetv3_small_100",
        "vit_tiny_patch16_224",  # normalised by halves
        "eva02_tiny_patch14_336",  # squashed to a square
    ],
)
def test_images_are_those_of_timms_validation(name: str, folder: Path) -> None:
    config = timm.data.resolve_data_config(
        {}, pretrained_cfg=vars(timm.models.get_pretrained_cfg(name)), use_test_size=True
    )
    size = foreign.input_size(sketch_name(f"timm:{name}"))
    assert size == config["input_size"][-1]
    expected, found = by_timm(folder, config), here(folder, f"timm:{name}", size)
    assert found.shape == expected.shape == (18, 3, size, size)
    assert torch.allclose(found, expected, atol=1e-6)


def sketch_name(name: str) -> Any:
    from bench.spec.model_name import parse

    return parse(name)


def test_images_are_those_of_torchvisions_transforms(folder: Path) -> None:
    weights = torchvision_models.get_model_weights("resnet50").DEFAULT  # resized to 232, cut to 224
    transform = weights.transforms()
    paths = sorted((folder / "val").rglob("*.*"), key=lambda p: (p.parent.name, p.name))
    expected = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    found = here(folder, "torchvision:resnet50", 224)
    assert torch.allclose(found, expected, atol=1e-6)


def test_preprocessing_is_another_cache_and_another_run(folder: Path) -> None:
    plain = DataSpec(name="folder", data_dir=str(folder), image_size=48)
    changed = plain.model_copy(
        update={"preprocessing": Preprocessing(resize_size=60, mean=(0.5,) * 3, std=(0.25,) * 3)}
    )
    first, second = data.load(plain, None), data.load(changed, None)
    assert first.digest != second.digest
    assert data.load(plain, None).digest == first.digest
    assert data.load(changed, None).digest == second.digest


def test_published_weights_are_evaluated_as_they_want_images(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Top-1 is that of timm's own validation; the record says how images were prepared."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    trained = timm.create_model("resnet10t", num_classes=3).eval()
    torch.save(trained.state_dict(), "weights.pth")
    create = timm.create_model

    def from_file(name: str, pretrained: bool = False, **options: Any) -> torch.nn.Module:
        overlay = {"file": "weights.pth", "num_classes": 3} if pretrained else None
        return create(name, pretrained=pretrained, pretrained_cfg_overlay=overlay, **options)

    monkeypatch.setattr(timm, "create_model", from_file)
    arguments = ("--dataset", "folder", "--data-dir", str(folder), "--out", "runs", "--json")
    result = CliRunner().invoke(app, ["evaluate", "timm:resnet10t", *arguments])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    config = timm.data.resolve_data_config(
        {}, pretrained_cfg=vars(timm.models.get_pretrained_cfg("resnet10t")), use_test_size=True
    )
    with torch.no_grad():
        expected = trained(by_timm(folder, config)).argmax(1)
    labels = torch.arange(3).repeat_interleave(6)
    assert found["accuracy"]["top1_correct"] == int((expected == labels).sum())
    record = read_record(Path(found["record"]))
    assert record.kind == "run"
    how = record.spec.data.preprocessing
    assert how is not None
    assert how.crop_share(record.spec.data.image_size) == pytest.approx(
        config["crop_pct"], abs=0.01
    )
    assert record.spec.weights == "pretrained"
    assert record.spec.model == identify("timm:resnet10t", num_classes=3, image_size=224)
