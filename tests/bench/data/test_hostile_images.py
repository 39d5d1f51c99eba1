"""Files that only look like images: refused by name, at once, and without a trace."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from bench.data import Dataset
from bench.data.cache import cache_root
from bench.data.folder import load_folder
from bench.data.images import FORMATS
from bench.errors import UserError
from bench.spec.run import DataSpec

GHOSTSCRIPT = """#!/bin/sh
touch '{trace}'
echo 10.0
"""
POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 8 8
%%EndComments
(%pipe%touch trace) (w) file closefile
showpage
%%EOF
"""


def encoded(form: str) -> bytes:
    """Return an image of 8×8 pixels in one of Pillow's formats."""
    mode = {"XBM": "1", "MSP": "1", "SPIDER": "F"}.get(form, "RGB")
    buffer = io.BytesIO()
    Image.new(mode, (8, 8)).save(buffer, form)
    return buffer.getvalue()


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG that claims a size, with chunks of its own and hardly any pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    every = ((b"IHDR", head), *chunks, (b"IDAT", zlib.compress(b"\0" * 10)), (b"IEND", b""))
    written = (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in every
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


ZEROS = zlib.compress(b"\0" * 2**27)
SIZE = 60_000  # pixels a side: 10 GiB in RGB
BOMBS = {
    "png": png(SIZE, SIZE),
    "gif": b"GIF89a" + struct.pack("<HHBBB", SIZE, SIZE, 0, 0, 0) + b"\x2c"
    + struct.pack("<HHHHB", 0, 0, SIZE, SIZE, 0) + b"\x08\x00\x3b",
    "bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, SIZE, SIZE, 1, 24, *[0] * 6),
    "ppm": b"P6 60000 60000 255\n",
    "text of a png": png(8, 8, (b"zTXt", b"Comment\0\0" + ZEROS)),
    "profile of a png": png(8, 8, (b"iCCP", b"p\0\0" + ZEROS)),
}  # fmt: skip
FOREIGN = ("PCX", "TGA", "ICO", "SGI", "EPS", "DDS", "MSP", "SPIDER", "XBM")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of four images; a Ghostscript that leaves a trace is installed."""
    for split in ("train", "test"):
        for name in ("blue", "red"):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            (tmp_path / "images" / split / name / "a.png").write_bytes(encoded("PNG"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(GHOSTSCRIPT.format(trace=tmp_path / "trace"))
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # look for it anew
    monkeypatch.chdir(tmp_path)
    return tmp_path / "images"


def load(root: Path, **changes: object) -> Dataset:
    """Read the folder; fail when that takes more than seconds, as waiting for a pipe does."""
    found: list[Dataset] = []
    problems: list[UserError] = []

    def work() -> None:
        try:
            facts = {"name": "folder", "data_dir": str(root), "image_size": 8}
            found.append(load_folder(DataSpec.model_validate(facts | changes)))
        except UserError as error:
            problems.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout=30)
    assert not thread.is_alive(), "it hangs"
    if problems:
        raise problems[0]
    return found[0]


def everything(folder: Path) -> dict[str, str]:
    """Return what lies in and below a folder, files with a hash of their content."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def refused(root: Path, path: Path) -> str:
    """Return why an image is refused: in one line that names it, and nothing has changed."""
    before = everything(root.parent)
    with pytest.raises(UserError) as caught:
        load(root)
    said = str(caught.value)
    assert said.startswith(f"{path} cannot be read as an image: ")
    assert "\n" not in said
    assert everything(root.parent) == before
    assert not cache_root().exists() or not any(cache_root().rglob("*.safetensors"))
    return said


def test_postscript_in_a_photographs_clothes_starts_no_program(root: Path) -> None:
    """Pillow would have Ghostscript draw it; the control at the end shows that this is noticed."""
    path = root / "train" / "red" / "photo.jpg"
    path.write_bytes(POSTSCRIPT)
    assert "cannot identify image file" in refused(root, path)
    with contextlib.suppress(OSError), Image.open(path) as image:
        image.load()
    assert (root.parent / "trace").exists()


@pytest.mark.parametrize("form", FOREIGN)
def test_formats_that_were_not_asked_for_are_not_read(root: Path, form: str) -> None:
    """The name ends as a photograph's; only the readers of the usual formats are tried."""
    path = root / "train" / "red" / "photo.jpg"
    path.write_bytes(encoded(form))
    assert "cannot identify image file" in refused(root, path)


@pytest.mark.parametrize("form", FORMATS)
def test_the_usual_formats_are_known_by_their_content(root: Path, form: str) -> None:
    """A PNG that is called a .jpg is read; cut in half it is not, whatever the format."""
    path = root / "train" / "red" / "photo.jpg"
    content = encoded(form)
    path.write_bytes(content)
    assert len(load(root).train) == 3
    for kept in cache_root().rglob("*.safetensors"):
        kept.unlink()
    path.write_bytes(content[: len(content) // 2])
    refused(root, path)


@pytest.mark.parametrize("kind", BOMBS)
def test_little_that_becomes_much_is_refused_before_it_does(root: Path, kind: str) -> None:
    """Gigabytes of pixels, of a comment or of a colour profile from some kilobytes."""
    path = root / "test" / "red" / "bomb.png"
    path.write_bytes(BOMBS[kind])
    assert len(BOMBS[kind]) < 2**18
    refused(root, path)


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path.relative_to(Path.cwd())))  # of a hundred letters at most


@pytest.mark.parametrize("make", [a_pipe, a_device, a_socket])
def test_what_is_no_file_is_not_opened(root: Path, make: Callable[[Path], None]) -> None:
    """To open a pipe is to wait for somebody to write."""
    path = root / "train" / "red" / "x.jpg"
    make(path)
    assert refused(root, path).endswith("it is no regular file")
    dangling = root / "train" / "red" / "y.png"
    dangling.symlink_to(root / "nowhere")
    whole = load(root, skip_bad=True)
    assert (len(whole.train), whole.num_skipped) == (2, 2)
    path.unlink()
    dangling.unlink()
    encoded_image = encoded("PNG")
    path.write_bytes(encoded_image)  # what could not be read can be now: decoded anew
    assert len(load(root, skip_bad=True).train) == 3


def test_a_link_that_leads_out_of_the_folder_gives_an_image_or_nothing(root: Path) -> None:
    """Data sets of links are usual; what is no image is not quoted."""
    outside = root.parent / "elsewhere"
    outside.write_bytes(encoded("PNG"))
    (root / "train" / "red" / "b.png").symlink_to(outside)
    assert len(load(root).train) == 3
    for kept in cache_root().rglob("*.safetensors"):
        kept.unlink()
    outside.write_text("a secret")
    assert "secret" not in refused(root, root / "train" / "red" / "b.png")


def test_a_link_to_itself_and_one_to_its_own_folder_end(root: Path) -> None:
    """A link to a folder that the search came through is not followed: no way round in circles."""
    (root / "train" / "red" / "again").symlink_to(root / "train")
    assert len(load(root).train) == 2
    (root / "train" / "red" / "loop.png").symlink_to(root / "train" / "red" / "loop.png")
    with pytest.raises(UserError, match=r"cannot read .*loop\.png: Too many levels"):
        load(root)
