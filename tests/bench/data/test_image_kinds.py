"""Images of every kind look to a model as they do to a person; what was left out is told."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.data import Dataset
from bench.data.cache import cache_root
from bench.data.folder import load_folder
from bench.data.images import SUFFIXES, Unreadable, read_image
from bench.errors import UserError
from bench.spec.preprocessing import Preprocessing
from bench.spec.run import DataSpec

GREY = np.linspace(0, 1, 64).reshape(8, 8)
LEVELS = np.rint(GREY * 255)


def load(root: Path, **changes: object) -> Dataset:
    facts = {"name": "folder", "data_dir": str(root), "image_size": 8}
    return load_folder(DataSpec.model_validate(facts | changes))


def noise(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return two classes of two training images and one test image, all different."""
    for seed, name in enumerate(("train/a/0", "train/a/1", "train/b/0", "train/b/1")):
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(seed).save(path)
    for seed, name in enumerate(("test/a/0", "test/b/0"), start=10):
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(seed).save(path)
    return tmp_path / "images"


def read(path: Path) -> np.ndarray:
    return read_image(str(path), 8).transpose(1, 2, 0).astype(int)


DEEP = {
    "16-bit png": (np.rint(GREY * 65535).astype(np.uint16), "png"),
    "16-bit tiff": (np.rint(GREY * 65535).astype(np.uint16), "tiff"),
    "16-bit pgm": (np.rint(GREY * 65535).astype(np.uint16), "pgm"),
    "32-bit tiff of 16 bits": (np.rint(GREY * 65535).astype(np.int32), "tiff"),
    "32-bit tiff of bytes": (LEVELS.astype(np.int32), "tiff"),
    "fractions up to 1": (GREY.astype(np.float32), "tiff"),
    "fractions up to 255": ((GREY * 255).astype(np.float32), "tiff"),
    "fractions up to 65535": ((GREY * 65535).astype(np.float32), "tif"),
}


@pytest.mark.parametrize("kind", DEEP)
def test_deep_grey_is_scaled(kind: str, tmp_path: Path) -> None:
    """A ramp from black to white stays one, whatever numbers it is written in."""
    values, suffix = DEEP[kind]
    Image.fromarray(values).save(tmp_path / f"x.{suffix}")
    found = read(tmp_path / f"x.{suffix}")
    assert np.abs(found - LEVELS[..., None]).max() <= 1


def test_deep_grey_is_scaled_for_published_weights_too(tmp_path: Path) -> None:
    """What their libraries do, clip it to white, has no published figure."""
    facts = {"resize_size": 8, "interpolation": "bilinear", "mean": (0.5,) * 3, "std": (0.5,) * 3}
    how = Preprocessing.model_validate(facts)
    Image.fromarray(np.full((8, 8), 0x4000, np.uint16)).save(tmp_path / "x.png")
    assert np.unique(read_image(str(tmp_path / "x.png"), 8, how)).tolist() == [64]


def test_a_dark_16_bit_image_stays_dark(tmp_path: Path) -> None:
    """Values below 256 of 65,535 are black, not a whole range of bytes."""
    Image.fromarray(np.rint(GREY * 250).astype(np.uint16)).save(tmp_path / "x.png")
    assert read(tmp_path / "x.png").max() == 1


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), 70_000.0, -1e30])
def test_fractions_out_of_range_are_refused(value: float, tmp_path: Path) -> None:
    """What has no white cannot be scaled: one line that names the range."""
    values = GREY.astype(np.float32)
    values[0, 0] = value
    Image.fromarray(values).save(tmp_path / "x.tiff")
    with pytest.raises(Unreadable, match=r"^its values reach from"):
        read(tmp_path / "x.tiff")


@pytest.mark.parametrize(
    ("mode", "colour", "suffix"),
    [
        ("RGBA", (0, 0, 0, 0), "png"),
        ("LA", (0, 0), "png"),
        ("RGBA", (9, 9, 9, 0), "webp"),
        ("RGBA", (9, 9, 9, 0), "tiff"),
        ("P", 0, "png"),
        ("P", 0, "gif"),
        ("RGB", (0, 0, 0), "png"),
        ("L", 0, "png"),
    ],
)
def test_what_is_transparent_lies_on_white(
    mode: str, colour: object, suffix: str, tmp_path: Path
) -> None:
    """As on a page: not black, which is what lies unseen below."""
    options = {} if mode in ("RGBA", "LA") else {"transparency": colour}
    path = tmp_path / f"x.{suffix}"
    Image.new(mode, (8, 8), colour).save(path, **options)
    assert read(path).min() == 255


def test_what_is_half_transparent_is_mixed_with_white(tmp_path: Path) -> None:
    """Half of black over white is the grey in the middle."""
    Image.new("RGBA", (8, 8), (0, 0, 0, 128)).save(tmp_path / "x.png")
    assert set(read(tmp_path / "x.png").ravel()) <= {126, 127, 128}


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_as_their_exif_data_says(
    orientation: int, suffix: str, tmp_path: Path
) -> None:
    """A white corner is found where a viewer shows it."""
    corner = {
        1: (0, 0),
        2: (0, 1),
        3: (1, 1),
        4: (1, 0),
        5: (0, 0),
        6: (0, 1),
        7: (1, 1),
        8: (1, 0),
    }
    image = Image.new("RGB", (8, 8))
    image.paste((255, 255, 255), (0, 0, 4, 4))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"x.{suffix}", exif=exif)
    quarters = read(tmp_path / f"x.{suffix}").reshape(2, 4, 2, 4, 3).mean(axis=(1, 3, 4))
    assert np.unravel_index(quarters.argmax(), (2, 2)) == corner[orientation]


def test_damaged_exif_data_turns_nothing(tmp_path: Path) -> None:
    """The picture is whole: what the camera scribbled beside it is no reason to refuse it."""
    noise(0).save(tmp_path / "x.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    assert np.array_equal(read(tmp_path / "x.png"), np.asarray(noise(0)))


@pytest.mark.parametrize(
    "suffix", [".jfif", ".jpe", ".JFIF", ".jif", ".apng", ".dib", ".pnm", ".Tif"]
)
def test_all_usual_endings_are_read(root: Path, suffix: str) -> None:
    """A browser's .jfif is a JPEG like another."""
    assert suffix.lower() in SUFFIXES
    shutil.copy(root / "train/a/0.png", root / f"train/a/more{suffix}")
    assert len(load(root).train) == 5


@pytest.mark.parametrize("suffix", [".heic", ".svg", ".pdf", ".txt", ".npy", ".jp2", ""])
def test_what_is_passed_over_is_counted(root: Path, suffix: str) -> None:
    """The ending and the number, on the first reading and when the set is found decoded."""
    for number in range(3):
        (root / f"train/a/x{number}{suffix}").write_bytes(b"?")
    for _ in range(2):
        (note,) = load(root).notes
        assert note.startswith("3 files were passed over")
        assert f"3 × {suffix or 'no ending'}" in note


def test_images_beside_the_class_folders_are_counted(root: Path) -> None:
    """A loose image belongs to no class."""
    shutil.copy(root / "train/a/0.png", root / "train/loose.png")
    assert "1 files were passed over" in load(root).notes[0]


@pytest.mark.parametrize("target", ["elsewhere", "elsewhere/deep", "../images2"])
def test_linked_folders_are_read(root: Path, tmp_path: Path, target: str) -> None:
    """Sets that are put together from links have all their images."""
    folder = tmp_path / target
    (folder / "more").mkdir(parents=True)
    noise(20).save(folder / "0.png")
    noise(21).save(folder / "more/1.png")
    (root / "train/a/linked").symlink_to(folder)
    assert len(load(root).train) == 6


@pytest.mark.parametrize("target", [".", "..", "../..", "../../..", "/", "sub"])
def test_links_in_circles_end(root: Path, target: str) -> None:
    """A link to a folder on the way, or one that was seen, is not followed; nothing is doubled."""
    (root / "train/a/sub").mkdir()
    noise(20).save(root / "train/a/sub/0.png")
    (root / "train/a/loop").symlink_to(target)
    (root / "train/a/sub/back").symlink_to(root / "train/a")
    assert len(load(root).train) == 5


@pytest.mark.parametrize("names", [["a/0", "a/1"], ["b/0", "b/1"], ["a/0", "a/1", "b/0", "b/1"]])
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (1, 2, 3)])
def test_constant_colours_are_told(root: Path, names: list[str], colour: tuple[int, ...]) -> None:
    """A class, or a split, of one colour is what files look like that were read wrongly."""
    for number, name in enumerate(names):
        Image.new("RGB", (8, 8), (*colour[:2], colour[2] ^ number)).save(root / f"train/{name}.png")
    expected = (
        "every image in train is of one constant colour"
        if len(names) == 4
        else f"every image of class '{names[0][0]}' in train is of one constant colour"
    )
    assert load(root).notes == (expected,)


@pytest.mark.parametrize("num", [1, 2])
@pytest.mark.parametrize("how", ["copied", "linked", "another name", "another format", "by class"])
def test_images_in_both_splits_are_counted(root: Path, num: int, how: str) -> None:
    """By their pixels: neither name nor format nor class hides them."""
    for name in ("a", "b")[:num]:
        source = root / f"train/{'ba'[name == 'b'] if how == 'by class' else name}/0.png"
        target = root / f"test/{name}/0.png"
        target.unlink()
        if how == "linked":
            target.symlink_to(source)
        elif how == "another format":
            Image.open(source).save(target.with_suffix(".bmp"))
        else:
            shutil.copy(source, target if how == "copied" else target.with_name("z.png"))
    (note,) = load(root).notes
    assert note.startswith(f"{num} of 2 test images are in the training split too")


@pytest.mark.parametrize("name", ["images", "ImageNet", "all", "données", "0"])
def test_a_folder_one_level_too_deep_is_an_error(root: Path, name: str) -> None:
    """One class is 100 % right for every model: what lies in it is named."""
    for split in ("train", "test"):
        (root / split).rename(root / "moved")
        (root / split).mkdir()
        (root / "moved").rename(root / split / name)
    with pytest.raises(UserError, match=rf"holds one class, '{name}'.*the folders a, b: classes"):
        load(root)


def test_one_class_is_an_error(root: Path) -> None:
    """Nor is there anything to learn where nothing is nested."""
    for split in ("train", "test"):
        shutil.rmtree(root / split / "b")
    with pytest.raises(UserError, match=r"holds one class, 'a'; two are needed at least$"):
        load(root)


def test_a_folder_one_level_too_high_is_named(root: Path) -> None:
    """The folder that holds train/ is offered."""
    with pytest.raises(UserError, match=rf"has no train/.*did you mean --data-dir {root}"):
        load(root.parent)


@pytest.mark.parametrize("name", ["é", "für", "ñandú", "각", "Å", "ệ"])
def test_accents_written_in_two_ways_are_one_class(root: Path, name: str) -> None:
    """macOS decomposes letters, others do not."""
    import unicodedata

    composed, apart = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    (root / "train/b").rename(root / f"train/{apart}")
    (root / "test/b").rename(root / f"test/{composed}")
    assert load(root).classes == ("a", composed)
    (root / f"train/{composed}").mkdir()
    with pytest.raises(UserError, match="two folders that are both named"):
        load(root)


@pytest.mark.parametrize("how", ["in place", "replaced", "copied", "swapped", "linked anew"])
def test_a_rewritten_file_of_the_same_size_and_time_is_decoded_again(root: Path, how: str) -> None:
    """As tar, rsync -t and cp -p leave it."""
    path, other = root / "train/a/0.bmp", root / "train/a/1.bmp"
    noise(30).save(path)
    noise(31).save(other)
    for each in (path, other):
        os.utime(each, (1, 1))
    before = load(root)
    content = path.read_bytes()
    changed = bytes([*content[:-9], content[-9] ^ 255, *content[-8:]])
    if how == "in place":
        path.write_bytes(changed)
    elif how == "swapped":
        path.rename(root / "x")
        other.rename(path)
        (root / "x").rename(other)
    else:
        fresh = root / "fresh"
        fresh.write_bytes(changed)
        os.utime(fresh, (1, 1))
        if how == "replaced":
            fresh.replace(path)
        elif how == "copied":
            shutil.copy2(fresh, path)
        else:
            path.unlink()
            os.link(fresh, path)
    os.utime(path, (1, 1))
    assert path.stat().st_size == len(content)
    assert load(root).digest != before.digest


FILES = ["facts.json", "train.npz", "test.npz", "train.images", "test.images"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["flipped", "emptied", "gone", "pipe", "folder", "replaced"])
def test_a_cache_that_others_wrote_is_made_anew(root: Path, how: str, name: str) -> None:
    """Whatever was done to one of its files: rebuilt, and the same set again."""
    before = load(root)
    (folder,) = (cache_root() / "decoded").glob("*")
    path = folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    if how != "flipped":
        path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how != "gone":
        path.write_bytes(b"" if how == "emptied" else content)
    again = load(root)
    assert again.digest == before.digest
    assert torch.equal(again.test.images[:], before.test.images[:])
    assert torch.equal(again.train.labels, before.train.labels)
    assert {path.name for path in folder.iterdir() if path.is_file()} == set(FILES)


@pytest.mark.parametrize(
    "name", ["x" * 300, f"a/{'é' * 200}/b", "x\0y", "~no-such-user-here/x", "x" * 5000]
)
@pytest.mark.parametrize("dataset", ["folder", "cifar10"])
def test_paths_that_cannot_be_are_one_line(name: str, dataset: str) -> None:
    """No file system takes them; no traceback."""
    from bench.data import load as load_any

    with pytest.raises(UserError) as caught:
        load_any(DataSpec.model_validate({"name": dataset, "data_dir": name}))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "change",
    [
        {"mean": "abc"}, {"mean": [0.1, 0.2, "x"]}, {"mean": [0.5, 0.5, 7.0]}, {"std": None},
        {"std": [float("nan")] * 3}, {"notes": None}, {"notes": [3]}, {"digest": 5},
        {"skipped": -1}, {"skipped": "x"}, {"files": 3},
    ],
)  # fmt: skip
def test_facts_of_another_kind_are_made_anew(root: Path, change: dict[str, object]) -> None:
    """Whoever can write a checksum can write anything beside it."""
    before = load(root)
    (path,) = (cache_root() / "decoded").glob("*/facts.json")
    text = json.dumps(json.loads(path.read_text().partition("\n")[2]) | change)
    path.write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")
    after = load(root)
    facts = ("digest", "pixel_mean", "pixel_std", "notes", "num_skipped")
    assert [getattr(after, key) for key in facts] == [getattr(before, key) for key in facts]
