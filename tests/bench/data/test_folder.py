"""Folders of images become a data set: sorted, decoded once, and kept for the next time."""

from __future__ import annotations

import os
import shutil
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as TF

from bench.data import Dataset
from bench.data.batches import named_normalization
from bench.data.cache import cache_root
from bench.data.folder import load_folder
from bench.data.images import read_image
from bench.errors import UserError
from bench.spec.run import DataSpec

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a tree of three classes with 4 training and 2 test images of 8×8 each."""
    for split, num_images in (("train", 4), ("test", 2)):
        for name, colour in COLOURS.items():
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for i in range(num_images):
                Image.new("RGB", (8, 8), tuple(c - i if c else 0 for c in colour)).save(
                    folder / f"{i:02}.png"
                )
    return tmp_path / "images"


def load(root: Path | None, **changes: object) -> Dataset:
    facts = {"name": "folder", "data_dir": None if root is None else str(root), "image_size": 8}
    return load_folder(DataSpec.model_validate(facts | changes))


def kept() -> list[Path]:
    return sorted((cache_root() / "decoded").glob("*"))


def test_classes_and_images_are_sorted_by_name(root: Path) -> None:
    """Labels count the sorted class folders, images come class by class in order of their names."""
    dataset = load(root)
    assert dataset.classes == ("blue", "green", "red")
    assert dataset.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert dataset.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert dataset.train.images[:, :, 0, 0].tolist() == [
        *([0, 0, 255 - i] for i in range(4)),
        *([0, 255 - i, 0] for i in range(4)),
        *([255 - i, 0, 0] for i in range(4)),
    ]


def test_the_label_is_the_folders_name_unless_it_is_given(root: Path) -> None:
    """A folder called images is labelled so; --label says it better."""
    assert load(root).label == "images (folder)"
    assert load(root, label="CIFAR-10 (JPEG copy)").label == "CIFAR-10 (JPEG copy)"


def test_val_stands_in_for_test(root: Path) -> None:
    """Where there is no test/ its images may be in val/; with both, test/ is taken."""
    before = load(root)
    shutil.copytree(root / "test", root / "val")
    (root / "val/red/00.png").unlink()
    assert len(load(root).test) == 6
    shutil.rmtree(root / "test")
    after = load(root)
    assert len(after.test) == 5
    assert torch.equal(after.train.images, before.train.images)


def test_hidden_files_and_other_files_are_passed_over(root: Path) -> None:
    """Dot files, dot folders, and what has no image's suffix are no images."""
    before = load(root).digest
    (root / "train/red/._00.png").write_bytes(b"of macOS")
    (root / "train/red/notes.txt").write_text("notes")
    (root / "train/red/.thumbnails").mkdir()
    shutil.copy(root / "train/red/00.png", root / "train/red/.thumbnails/00.png")
    (root / "train/.DS_Store").write_bytes(b"")
    (root / "train/.hidden").mkdir()
    (root / "train/README.md").write_text("")
    assert load(root).digest == before


def test_folders_inside_of_a_class_are_searched(root: Path) -> None:
    """Tiny ImageNet keeps train/<class>/images/*.JPEG; suffixes count in any case."""
    (root / "train/red/images").mkdir()
    Image.new("RGB", (8, 8), (200, 0, 0)).save(root / "train/red/images/x.JPEG")
    assert len(load(root).train) == 13


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA"])
def test_every_kind_of_image_becomes_rgb(root: Path, mode: str) -> None:
    """Grey, transparent, palette and CMYK images have three channels in the end."""
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode).save(root / f"train/red/99.{suffix}")
    image = load(root).train.images[-1]
    assert image.shape == (3, 8, 8)
    assert int(image.min()) > 250


@pytest.mark.parametrize("shape", [(12, 36), (36, 12), (24, 24), (16, 40)])
def test_other_sizes_are_scaled_and_cut_as_torchvision_does(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    """The shorter side becomes the image size, then the middle is cut out, within one level."""
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "x.png")
    found = torch.from_numpy(read_image(str(tmp_path / "x.png"), 8).copy())
    expected = TF.pil_to_tensor(TF.center_crop(TF.resize(image, 8), 8))
    assert (found.int() - expected.int()).abs().max() <= 1


def test_images_of_the_right_size_keep_every_pixel(tmp_path: Path) -> None:
    """No scaling, no smoothing."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    found = read_image(str(tmp_path / "x.png"), 32)
    assert np.array_equal(found.transpose(1, 2, 0), pixels)


def test_progress_counts_each_split_to_its_end(root: Path) -> None:
    """Both splits report how far they are; a kept set needs no decoding and reports nothing."""
    seen: list[tuple[str, int, int]] = []
    spec = DataSpec(name="folder", data_dir=str(root), image_size=8)
    load_folder(spec, lambda *now: seen.append(now))
    assert seen == [("decoding training images", 12, 12), ("decoding test images", 6, 6)]
    load_folder(spec, lambda *now: seen.append(now))
    assert len(seen) == 2


def test_a_decoded_set_is_used_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second load decodes nothing and gives the same data set."""
    first = load(root)
    monkeypatch.setattr("bench.data.stored.read_image", None)
    again = load(root, label="renamed")
    assert again.digest == first.digest
    assert (again.classes, again.label) == (first.classes, "renamed")
    assert len(kept()) == 1


def test_the_folder_may_be_named_in_any_way(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path finds what an absolute path left."""
    first = load(root)
    monkeypatch.chdir(root.parent)
    monkeypatch.setattr("bench.data.stored.read_image", None)
    assert load(Path("images")).digest == first.digest


@pytest.mark.parametrize("change", ["content", "name", "new", "gone", "image size"])
def test_a_changed_folder_is_decoded_again(root: Path, change: str) -> None:
    """Another size, time or name of a file, one more or one less, or another image size."""
    first = load(root)
    path = root / "train/red/03.png"
    size = 8
    if change == "content":
        Image.new("RGB", (8, 8), (9, 9, 9)).save(path)
        os.utime(path, (1, 1))
    elif change == "name":
        path.rename(root / "train/red/-1.png")
    elif change == "new":
        shutil.copy(path, root / "train/red/04.png")
    elif change == "gone":
        path.unlink()
    else:
        size = 4
    changed = load(root, image_size=size)
    assert changed.digest != first.digest
    shutil.rmtree(cache_root() / "decoded")
    assert load(root, image_size=size).digest == changed.digest


def test_nothing_half_written_is_kept(root: Path) -> None:
    """A set that fails to decode leaves nothing, one that decodes leaves one folder."""
    (root / "test/red/00.png").write_bytes(b"")
    with pytest.raises(UserError):
        load(root)
    assert kept() == []
    (root / "test/red/00.png").unlink()
    load(root)
    assert [path.is_dir() for path in kept()] == [True]


def test_a_cache_that_cannot_be_written_to_is_done_without(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file stands where the cache folder should be: the set is decoded all the same."""
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr("bench.data.cache.cache_root", lambda: tmp_path / "file")
    assert len(load(root).train) == 12


def png_of(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        sum_ = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", sum_)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "cannot identify image file"),
        (b"no image", "cannot identify image file"),
        (png_of(30_000, 30_000), "decompression bomb"),
        (png_of(10_000, 10_000), "decompression bomb"),
        (png_of(8, 8), ""),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "cannot identify image file"),
    ],
    ids=["empty", "text", "bomb", "smaller bomb", "truncated", "postscript"],
)
def test_an_image_that_cannot_be_read_is_named(root: Path, content: bytes, why: str) -> None:
    """One line that names the file and says why; nothing is guessed in its place."""
    path = root / "test/green/01.png"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load(root)
    assert str(caught.value).startswith(f"{path} cannot be read as an image: ")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_jpeg_is_named(root: Path) -> None:
    """A photograph that was cut off is an error, not a grey half."""
    path = root / "train/red/photo.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match=r"photo\.jpg cannot be read as an image: .*truncated"):
        load(root)


def test_a_broken_link_is_named(root: Path) -> None:
    """A link to nowhere is an error that names it."""
    (root / "train/red/link.png").symlink_to(root / "nowhere.png")
    with pytest.raises(UserError, match=r"cannot read .*link\.png: No such file"):
        load(root)


def test_no_data_dir_is_said() -> None:
    """The option that is missing is named."""
    with pytest.raises(UserError, match="dataset folder needs --data-dir"):
        load(None)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """So is a file in its place."""
    with pytest.raises(UserError, match=r"the data folder .*/nowhere does not exist"):
        load(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"the data folder .*/file does not exist"):
        load(tmp_path / "file")


def test_a_missing_split_is_named(root: Path) -> None:
    """What is there and what is needed."""
    message = "has no test/ or val/; it needs train/<class> and test/<class>"
    shutil.rmtree(root / "test")
    with pytest.raises(UserError) as caught:
        load(root)
    assert str(caught.value) == f"the data folder {root} {message}"


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    """A folder with nothing in it has no train/."""
    with pytest.raises(UserError, match="has no train/"):
        load(tmp_path)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_classes_is_named(root: Path, split: str) -> None:
    """A split of loose files, or of none, has no classes."""
    shutil.rmtree(root / split)
    (root / split).mkdir()
    (root / split / "x.png").write_bytes(b"")
    with pytest.raises(UserError, match=f"/{split} holds no class folders"):
        load(root)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_class_without_images_is_named(root: Path, split: str) -> None:
    """An empty class folder is an error, not a class that never occurs."""
    shutil.rmtree(root / split / "green")
    (root / split / "green").mkdir()
    with pytest.raises(UserError, match=f"{split}/green holds no images"):
        load(root)


def test_classes_that_differ_are_named(root: Path) -> None:
    """A class of one split alone, either way, is an error: labels would not mean the same."""
    (root / "test/red").rename(root / "test/crimson")
    with pytest.raises(UserError, match="/test has no class 'red', which the training split has"):
        load(root)
    shutil.copytree(root / "test/crimson", root / "test/red")
    with pytest.raises(UserError, match="has a class 'crimson' that the training split has not"):
        load(root)


def test_folders_with_spaces_and_foreign_names_are_read(root: Path, tmp_path: Path) -> None:
    """Names are the file system's, not ASCII's."""
    other = tmp_path / "mes données ☂"
    shutil.copytree(root, other)
    for split in ("train", "test"):
        (other / split / "red").rename(other / split / "rouge vif é")
    assert load(other).classes == ("blue", "green", "rouge vif é")
    assert load(other).label == "mes données ☂ (folder)"


def test_a_class_whose_name_is_not_utf8_is_refused(root: Path) -> None:
    """A name that no record could hold is an error."""
    try:
        os.mkdir(os.fsencode(root) + b"/train/\xff")
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    with pytest.raises(UserError, match="not UTF-8"):
        load(root)


def test_the_jpeg_copy_of_cifar10_is_read(shared_data: Path, tmp_path: Path) -> None:
    """Forty images of each class: the class by name, every image, the statistics of photographs."""
    with tarfile.open(shared_data / "cifar10-jpeg.tar.xz") as tar:
        for member in tar:  # in their order: to seek back in such an archive is slow
            if member.isreg() and Path(member.name).stem < "0040":
                tar.extract(member, tmp_path, filter="data")
    dataset = load(tmp_path, image_size=32)
    assert (len(dataset.train), len(dataset.test)) == (400, 400)
    assert len(dataset.classes) == 10
    assert set(dataset.classes) >= {"airplane", "truck"}
    assert dataset.notes == ()
    assert all(0.35 < mean < 0.6 for mean in dataset.pixel_mean)
    assert all(0.2 < std < 0.3 for std in dataset.pixel_std)


def test_without_training_images_there_is_all_to_test_on(root: Path) -> None:
    """Decoded once, as any set; what needs training images says so."""
    whole = load(root)
    shutil.rmtree(root / "train")
    (root / "test").rename(root / "val")
    for _ in ("decoded", "kept"):
        found = load(root)
        assert found.classes == whole.classes
        assert torch.equal(found.test.images[:], whole.test.images[:])
        assert len(found.train) == 0
        assert tuple(found.train.images.shape) == (0, 3, 8, 8)
        assert (found.pixel_mean, found.pixel_std, found.image_size) == ((), (), 8)
    assert named_normalization("imagenet", found).mean == (0.485, 0.456, 0.406)
    with pytest.raises(UserError, match=r"has no training images.*--normalization imagenet"):
        named_normalization("pixels", found)
    (root / "val").rename(root / "other")
    with pytest.raises(UserError, match="has no train/"):
        load(root)
    (root / "other").rename(root / "train")
    with pytest.raises(UserError, match="has no test/ or val/"):
        load(root)
