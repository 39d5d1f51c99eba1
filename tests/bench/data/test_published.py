"""Data sets that torchvision and the Hugging Face library read: from files that are here."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image
from typer.testing import CliRunner

from bench.api import evaluate, train
from bench.cli.app import app
from bench.data import Dataset, load
from bench.errors import UserError
from bench.spec.run import DataSpec

RANDOM = np.random.default_rng(0)


def read(name: str, root: Path | None = None, **options: Any) -> Dataset:
    facts = {"name": name, "data_dir": root and str(root), **options}
    return load(DataSpec.model_validate(facts))


@pytest.fixture
def fashion(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """Return where FashionMNIST's four files are, 40 and 20 images of 28×28, and the test's."""
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for kind, num in (("train", 40), ("t10k", 20)):
        pixels = RANDOM.integers(0, 256, (num, 28, 28), dtype=np.uint8)
        labels = (np.arange(num) % 10).astype(np.uint8)
        for name, array in ((f"{kind}-images-idx3", pixels), (f"{kind}-labels-idx1", labels)):
            head = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape)
            (folder / f"{name}-ubyte").write_bytes(head + array.tobytes())
            (folder / f"{name}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    return tmp_path, pixels


def test_fashion_mnist_is_read(fashion: tuple[Path, np.ndarray]) -> None:
    """Grey in three equal channels, in order, with the classes' names; resized as is asked."""
    root, pixels = fashion
    dataset = read("torchvision:FashionMNIST", root, image_size=28)
    assert (len(dataset.train), len(dataset.test)) == (40, 20)
    assert dataset.classes[0] == "T-shirt/top"
    assert dataset.test.labels.tolist() == [*range(10), *range(10)]
    assert np.array_equal(dataset.test.images[:].numpy(), np.stack([pixels] * 3, axis=1))
    assert dataset.label == "torchvision:FashionMNIST"
    assert read("torchvision:FashionMNIST", root, image_size=16).image_size == 16
    again = read("torchvision:FashionMNIST", root, image_size=28)
    assert again.digest == dataset.digest


def test_a_run_on_fashion_mnist(fashion: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    """Trained, found by its folder's name on any file system, and tested again."""
    options: dict[str, Any] = {"data_dir": str(fashion[0]), "epochs": 1, "batch_size": 10}
    (record,) = train(
        "resnet20", "torchvision:FashionMNIST", out=tmp_path / "runs", progress=False,
        device="cpu", **options,
    )  # fmt: skip
    (folder,) = (tmp_path / "runs").iterdir()
    assert ":" not in folder.name
    assert record.spec.data.name == "torchvision:FashionMNIST"
    assert evaluate(folder, device="cpu", progress=False).accuracy == record.test


def test_svhn_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set that takes a split by name, and does not name its classes."""
    from torchvision import datasets

    for split in ("train", "test"):
        pixels = RANDOM.integers(0, 256, (32, 32, 3, 20), dtype=np.uint8)
        labels = (np.arange(20) % 10 + 1)[:, None]
        scipy.io.savemat(tmp_path / f"{split}_32x32.mat", {"X": pixels, "y": labels})
    monkeypatch.setattr(datasets.SVHN, "_check_integrity", lambda self: True)
    dataset = read("torchvision:SVHN", tmp_path)
    assert dataset.classes == tuple("0123456789")
    assert dataset.test.labels[:10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert np.array_equal(dataset.test.images[3].permute(1, 2, 0).numpy(), pixels[..., 3])


def test_flowers_of_unlike_size_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of unlike size become those of the specification."""
    from torchvision import datasets

    folder = tmp_path / "flowers-102" / "jpg"
    folder.mkdir(parents=True)
    for number in range(1, 307):
        size = (30 + number % 7, 40)
        Image.fromarray(RANDOM.integers(0, 256, (*size, 3), dtype=np.uint8)).save(
            folder / f"image_{number:05}.jpg"
        )
    labels = np.arange(306) % 102 + 1
    scipy.io.savemat(tmp_path / "flowers-102/imagelabels.mat", {"labels": labels})
    parts = {"trnid": np.arange(1, 103), "valid": np.arange(103, 205), "tstid": np.arange(205, 307)}
    scipy.io.savemat(tmp_path / "flowers-102/setid.mat", parts)
    monkeypatch.setattr(datasets.Flowers102, "_check_integrity", lambda self: True)
    dataset = read("torchvision:Flowers102", tmp_path, image_size=24)
    assert tuple(dataset.train.images.shape) == (102, 3, 24, 24)
    assert len(dataset.classes) == 102


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision:FashionMINST", "unknown dataset .*; did you mean FashionMNIST"),
        ("torchvision:CocoDetection", "unknown dataset 'torchvision:CocoDetection'"),
        ("torchvision:", r"unknown dataset .*torchvision:NAME, hf:NAME"),
        ("tensorflow:mnist", r"unknown dataset 'tensorflow:mnist'; choose from: cifar10"),
        ("tochvision:MNIST", r"choose from: .*; did you mean torchvision:NAME\?"),
        ("cifar", r"; did you mean cifar1.*\?"),
        ("FashionMNIST", "unknown dataset 'FashionMNIST'"),
    ],
)
def test_names_that_there_are_not(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(name)
    for command in (["train", "resnet20"], ["evaluate", "x.pt", "--model", "resnet20"]):
        result = CliRunner().invoke(app, [*command, "--dataset", name])
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output


def test_no_network_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the files nor the network that they would come from."""
    import urllib.error
    import urllib.request

    def unreachable(*_: Any, **__: Any) -> Any:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(
        UserError, match=r"FashionMNIST is not in .* cannot be downloaded"
    ) as caught:
        read("torchvision:FashionMNIST", tmp_path)
    assert "\n" not in str(caught.value)


def made(**splits: dict[str, Any]) -> Any:
    """Return a `datasets.DatasetDict` of images and labels."""
    datasets = pytest.importorskip("datasets", reason="the extra hf is not installed")
    pictures = [
        Image.fromarray(RANDOM.integers(0, 256, (12 + i, 20, 3), dtype=np.uint8)) for i in range(6)
    ]
    features = datasets.Features(
        {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["cat", "dog"])}
    )
    found = {}
    for name, change in splits.items():
        columns = {"picture": pictures, "kind": [0, 1, 0, 1, 0, 1], **change}
        chosen = {column: feature for column, feature in features.items() if columns[column]}
        chosen |= {k: datasets.Value("int64") for k in columns if k not in features}
        rows = {column: values for column, values in columns.items() if values}
        found[name] = datasets.Dataset.from_dict(rows, features=datasets.Features(chosen))
    return datasets.DatasetDict(found)


@pytest.mark.parametrize("form", ["arrow", "parquet", "imagefolder"])
def test_a_local_hf_data_set_is_read(tmp_path: Path, form: str) -> None:
    """As the library saves it, as files of a hub's repository, and as a folder of images."""
    both = made(train={}, validation={})
    place = tmp_path / "pets"
    if form == "arrow":
        both.save_to_disk(place)
    elif form == "parquet":
        place.mkdir()
        for split, rows in both.items():
            rows.to_parquet(place / f"{split}-00000-of-00001.parquet")
    else:
        for split, rows in both.items():
            for number, row in enumerate(rows):
                folder = place / split / ["cat", "dog"][row["kind"]]
                folder.mkdir(parents=True, exist_ok=True)
                row["picture"].save(folder / f"{number}.png")
    dataset = read(f"hf:{place}", tmp_path / "hub", image_size=16)
    assert dataset.classes == ("cat", "dog")
    assert sorted(dataset.train.labels.tolist()) == [0, 0, 0, 1, 1, 1]
    assert tuple(dataset.test.images.shape) == (6, 3, 16, 16)
    assert read(f"hf:{place}", tmp_path / "hub", image_size=16).digest == dataset.digest


def test_a_split_may_be_named(tmp_path: Path) -> None:
    """Behind the name stands the split to test on; an unknown one is told with those there are."""
    place = tmp_path / "pets"
    made(train={}, test={}, odd={"kind": [1, 0, 1, 0, 1, 0]}).save_to_disk(place)
    assert read(f"hf:{place}:odd").test.labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert read(f"hf:{place}").test.labels.tolist() == [0, 1, 0, 1, 0, 1]
    with pytest.raises(UserError, match=r"has no nowhere; its splits are train, test, odd"):
        read(f"hf:{place}:nowhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": None}, r"has no labels: no column is of the kind ClassLabel; it has picture"),
        ({"picture": None}, r"has no images: no column is of the kind Image; it has kind"),
        ({"kind": [0, 0, 0, 0, 0, 0]}, r"has no train image of class 'dog'"),
        ({"kind": [0, 1, None, 1, 0, 1]}, r"train images of .* have no labels of 2 classes"),
    ],
)
def test_hf_data_sets_that_cannot_be_trained_on(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    made(train=changes, test=changes).save_to_disk(tmp_path / "pets")
    with pytest.raises(UserError, match=message):
        read(f"hf:{tmp_path}/pets")


def test_no_hub_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, a data set that is not here is said to be so, and exit code 2."""
    pytest.importorskip("datasets", reason="the extra hf is not installed")
    command = ["train", "resnet20", "--dataset", "hf:nobody/nothing"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    run = [sys.executable, "-m", "bench", *command]
    found = subprocess.run(run, capture_output=True, text=True, check=False, cwd=Path.cwd())
    assert "hf:nobody/nothing is not on this machine and cannot be downloaded" in found.stderr


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.data.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'senet-bench\[hf\]'"):
        read("hf:org/name")
