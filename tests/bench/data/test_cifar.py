"""CIFAR is read from its official layout, and only if its sums are right."""

from __future__ import annotations

import pickle
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cifar_files import Files, archive_of, cifar_files, num_classes, source_of, write_files
from file_server import Server, serving
from torchvision import datasets

from bench.data.cifar import Source, load_cifar, official
from bench.data.download import md5, md5_of_file
from bench.errors import UserError
from bench.spec.run import DataSpec

NAMES = ["cifar10", "cifar100"]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def files(name: str) -> Files:
    return cifar_files(name)


@pytest.fixture
def server(name: str, files: Files) -> Iterator[tuple[Server, Source]]:
    """Serve an archive of the files, and give the source that knows it."""
    folder = official(name).folder
    archive = archive_of((f"{folder}/{file}", content) for file, content in files.items())
    with serving({"/archive.tar.gz": archive}) as state:
        url = f"{state.url}/archive.tar.gz"
        yield state, source_of(name, files, url=url, archive_md5=md5(archive))


def spec(name: str, folder: Path, **changes: object) -> DataSpec:
    return DataSpec(name=name, data_dir=str(folder), **changes)  # type: ignore[arg-type]


def test_the_sums_are_the_published_ones() -> None:
    """URLs and MD5 sums are those of torchvision; two of them are written here."""
    assert official("cifar10").url == "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    assert official("cifar10").archive_md5 == "c58f30108f718f92721af3b95e74349a"
    assert official("cifar100").train == {"train": "16019d7e3df5f24257cddd939b257f8d"}
    assert len(official("cifar10").files) == 7


def test_unpacked_files_are_used_without_a_download(
    name: str, files: Files, tmp_path: Path
) -> None:
    """Pixels are in the order channel, row, column; nothing else is written."""
    source = source_of(name, files)
    write_files(tmp_path / source.folder, files)
    dataset = load_cifar(spec(name, tmp_path), source=source)
    first = pickle.loads(files[next(iter(source.train))])  # of our own making
    assert np.array_equal(dataset.train.images[0].numpy().ravel(), first["data"][0])
    assert dataset.train.labels[:20].tolist() == first[source.label_keys["fine"]]
    assert len(dataset.train) == 20 * len(source.train)
    assert len(dataset.test) == 20
    assert len(dataset.classes) == num_classes(name, "fine")
    assert dataset.label == {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}[name]
    assert [path.name for path in tmp_path.iterdir()] == [source.folder]


def test_pixels_equal_torchvisions(name: str, files: Files, tmp_path: Path) -> None:
    """torchvision's own reader gives the same images and labels."""
    source = source_of(name, files)
    write_files(tmp_path / source.folder, files)
    dataset = load_cifar(spec(name, tmp_path), source=source)
    parent = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    (meta,) = source.meta.items()
    sums = {
        "train_list": list(source.train.items()),
        "test_list": list(source.test.items()),
        "meta": parent.meta | {"md5": meta[1]},
    }
    theirs = type("Resummed", (parent,), sums)(tmp_path, train=True)
    assert np.array_equal(dataset.train.images.permute(0, 2, 3, 1).numpy(), theirs.data)
    assert dataset.train.labels.tolist() == theirs.targets
    assert list(dataset.classes) == theirs.classes


def test_the_folder_of_files_itself_may_be_named(name: str, files: Files, tmp_path: Path) -> None:
    """--data-dir may be the unpacked folder or its parent."""
    source = source_of(name, files)
    write_files(tmp_path, files)
    assert len(load_cifar(spec(name, tmp_path), source=source).test) == 20


def test_coarse_labels_of_cifar100(tmp_path: Path) -> None:
    """labels=coarse gives the 20 superclasses, and says so in the label."""
    files = cifar_files("cifar100")
    source = source_of("cifar100", files)
    write_files(tmp_path / source.folder, files)
    dataset = load_cifar(spec("cifar100", tmp_path, labels="coarse"), source=source)
    held = pickle.loads(files["train"])  # of our own making
    assert dataset.train.labels.tolist() == held["coarse_labels"]
    assert dataset.classes == tuple(f"coarse {i}" for i in range(20))
    assert dataset.label == "CIFAR-100 (coarse labels)"


def test_missing_files_are_downloaded_once(
    name: str, server: tuple[Server, Source], tmp_path: Path
) -> None:
    """The first load fetches and unpacks, with progress; the second asks the server nothing."""
    state, source = server
    seen: list[str] = []
    first = load_cifar(spec(name, tmp_path / "x"), lambda what, *_: seen.append(what), source)
    again = load_cifar(spec(name, tmp_path / "x"), source=source)
    assert first.digest == again.digest
    assert state.asked == ["/archive.tar.gz"]
    assert set(seen) == {f"downloading {source.archive}"}
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == sorted(
        [source.folder, source.archive]
    )


def test_the_default_folder_is_the_users_cache(
    name: str, server: tuple[Server, Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --data-dir files go to the cache folder."""
    cache = tmp_path / "cache"
    monkeypatch.setattr("bench.data.cifar.cache_root", lambda: cache)
    load_cifar(DataSpec(name=name), source=server[1])
    assert (cache / server[1].folder).is_dir()


def test_an_archive_that_is_there_is_unpacked(
    name: str, server: tuple[Server, Source], tmp_path: Path
) -> None:
    """An archive put there by hand replaces the download."""
    state, source = server
    (tmp_path / source.archive).write_bytes(state.files["/archive.tar.gz"])
    load_cifar(spec(name, tmp_path), source=source)
    assert state.asked == []


def test_a_missing_file_is_unpacked_again(
    name: str, server: tuple[Server, Source], tmp_path: Path
) -> None:
    """If one file is gone the archive gives it back."""
    _, source = server
    before = load_cifar(spec(name, tmp_path), source=source)
    (tmp_path / source.folder / next(iter(source.test))).unlink()
    assert load_cifar(spec(name, tmp_path), source=source).digest == before.digest


@pytest.mark.parametrize("damage", ["truncated", "bit flipped", "emptied"])
def test_a_damaged_file_is_named(name: str, files: Files, tmp_path: Path, damage: str) -> None:
    """Each file's MD5 is checked: the error names the file and both sums."""
    source = source_of(name, files)
    for file, expected in source.files.items():
        write_files(tmp_path / source.folder, files)
        path = tmp_path / source.folder / file
        content = bytearray(files[file])
        if damage == "truncated":
            del content[len(content) // 2 :]
        elif damage == "bit flipped":
            content[len(content) // 2] ^= 1
        else:
            content.clear()
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            load_cifar(spec(name, tmp_path), source=source)
        assert str(caught.value) == (
            f"{path} is damaged or not the official file: its MD5 is {md5(bytes(content))},"
            f" not {expected}; delete it to have it fetched again"
        )


def test_files_with_other_sums_are_refused(name: str, files: Files, tmp_path: Path) -> None:
    """A set that is not the official one is not read under its name."""
    write_files(tmp_path / official(name).folder, files)
    with pytest.raises(UserError, match="not the official file"):
        load_cifar(spec(name, tmp_path))


def test_a_damaged_archive_is_named(
    name: str, server: tuple[Server, Source], tmp_path: Path
) -> None:
    """An archive with another MD5 is not even opened."""
    state, source = server
    (tmp_path / source.archive).write_bytes(state.files["/archive.tar.gz"][:-1])
    with pytest.raises(UserError, match=rf"{source.archive} is damaged"):
        load_cifar(spec(name, tmp_path), source=source)
    assert not (tmp_path / source.folder).exists()


def test_a_truncated_download_leaves_nothing(
    name: str, server: tuple[Server, Source], tmp_path: Path
) -> None:
    """Neither archive, nor files, nor the folder that was made for them."""
    state, source = server
    state.cut = 1000
    with pytest.raises(UserError, match=r"cut off at 1000 of|broke off after"):
        load_cifar(spec(name, tmp_path / "x"), source=source)
    assert list(tmp_path.iterdir()) == []


def test_a_download_with_another_md5_leaves_nothing(
    name: str, server: tuple[Server, Source], tmp_path: Path
) -> None:
    """What the server sends is checked before it is unpacked."""
    source = replace(server[1], archive_md5="0" * 32)
    with pytest.raises(UserError, match="nothing of it was kept"):
        load_cifar(spec(name, tmp_path / "x"), source=source)
    assert list(tmp_path.iterdir()) == []


def test_no_network_says_how_to_get_the_data(
    name: str, server: tuple[Server, Source], tmp_path: Path
) -> None:
    """The URL, where to put the file, and that shapes needs none; one line."""
    state, source = server
    del state.files["/archive.tar.gz"]
    folder = tmp_path / "x"
    with pytest.raises(UserError) as caught:
        load_cifar(spec(name, folder), source=source)
    assert str(caught.value) == (
        f"{name} is not in {folder} and cannot be downloaded ({source.url} answers 404 Not Found);"
        f" put {source.archive} from {source.url} into that folder,"
        " or choose --dataset shapes, which needs no files"
    )
    assert not folder.exists()


def test_a_malicious_file_leaves_no_trace(name: str, files: Files, tmp_path: Path) -> None:
    """Even one whose MD5 is expected cannot run anything."""
    trace = tmp_path / "trace"
    (meta,) = official(name).meta
    files = files | {meta: b"cos\nsystem\n(S'touch " + str(trace).encode() + b"'\ntR."}
    source = source_of(name, files)
    write_files(tmp_path / source.folder, files)
    with pytest.raises(UserError, match=r"it asks for os\.system"):
        load_cifar(spec(name, tmp_path), source=source)
    assert not trace.exists()


@pytest.mark.parametrize(
    "entries",
    [
        [],
        {},
        {"data": [1, 2], "labels": [0, 1]},
        {"data": np.zeros((2, 3072), np.float32), "labels": [0, 1]},
        {"data": np.zeros((2, 3071), np.uint8), "labels": [0, 1]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0, -1]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": ["a", "b"]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": None},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [[0], [0, 1]]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [True, {}]},
        {"data": np.zeros((2, 3072), np.uint8)},
    ],
    ids=str,
)
def test_another_layout_is_said(tmp_path: Path, entries: object) -> None:
    """A pickle of the right sum that holds something else is an error that names the file."""
    files = cifar_files("cifar10") | {"data_batch_3": pickle.dumps(entries, protocol=2)}
    source = source_of("cifar10", files)
    write_files(tmp_path / source.folder, files)
    with pytest.raises(UserError, match=r"data_batch_3 is not in the layout of CIFAR"):
        load_cifar(spec("cifar10", tmp_path), source=source)


def test_another_image_size_is_refused(name: str, tmp_path: Path) -> None:
    """CIFAR's images are not scaled."""
    with pytest.raises(UserError, match=f"the images of {name} are 32×32; image size 64"):
        load_cifar(spec(name, tmp_path, image_size=64))


@pytest.mark.parametrize(
    ("name", "labels", "num_train", "num_test", "first"),
    [
        ("cifar10", "fine", 1000, 500, ["frog", "truck", "truck", "deer"]),
        ("cifar100", "fine", 486, 916, ["cattle", "dinosaur", "apple", "boy"]),
        (
            "cifar100",
            "coarse",
            486,
            916,
            ["large_omnivores_and_herbivores", "reptiles", "fruit_and_vegetables", "people"],
        ),
    ],
)
def test_official_samples_are_read(
    shared_data: Path,
    tmp_path: Path,
    name: str,
    labels: str,
    num_train: int,
    num_test: int,
    first: list[str],
) -> None:
    """Official bytes, cut short: the first images' classes are the known ones."""
    with tarfile.open(shared_data / "cifar-official-samples.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    source = official(name)
    folder = tmp_path / source.folder
    source = replace(
        source,
        **{
            part: {file: md5_of_file(folder / file) for file in getattr(source, part)}
            for part in ("train", "test", "meta")
        },
    )
    dataset = load_cifar(spec(name, tmp_path, labels=labels), source=source)
    assert (len(dataset.train), len(dataset.test)) == (num_train, num_test)
    assert [dataset.classes[label] for label in dataset.train.labels[:4]] == first
    assert 0.4 < min(dataset.pixel_mean) < max(dataset.pixel_mean) < 0.55
