"""Small files in the official layouts of CIFAR, and sources that know their sums."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.data.cifar import Source, official
from bench.data.download import md5

Files = dict[str, bytes]


def cifar_files(name: str, num_per_file: int = 20) -> Files:
    """Return the files of a small CIFAR-10 or CIFAR-100 with random pixels."""
    source = official(name)
    random = np.random.default_rng(0)
    files = {}
    for file in source.train | source.test:
        batch: dict[str, object] = {
            "data": random.integers(0, 256, (num_per_file, 3072), dtype=np.uint8)
        }
        for labels, key in source.label_keys.items():
            batch[key] = random.integers(0, num_classes(name, labels), num_per_file).tolist()
        files[file] = pickle.dumps(batch, protocol=2)
    classes = {
        key: [f"{labels} {i}" for i in range(num_classes(name, labels))]
        for labels, key in source.class_keys.items()
    }
    (meta,) = source.meta
    return files | {meta: pickle.dumps(classes, protocol=2)}


def num_classes(name: str, labels: str) -> int:
    return {"cifar10": 10, "cifar100": 100}[name] if labels == "fine" else 20


def source_of(name: str, files: Files, **changes: str) -> Source:
    """Return the official source with the sums of other files."""
    source = official(name)
    sums = {file: md5(content) for file, content in files.items()}
    return replace(
        source,
        train={file: sums[file] for file in source.train},
        test={file: sums[file] for file in source.test},
        meta={file: sums[file] for file in source.meta},
        **changes,  # type: ignore[arg-type]  # of strings only
    )


def write_files(folder: Path, files: Files) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)


def archive_of(members: Iterable[tuple[tarfile.TarInfo | str, bytes]]) -> bytes:
    """Return a .tar.gz of files by name, or of members that are described in full."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
