"""``onnx:FILE`` and ``pt2:FILE``: models that somebody exported, for inference alone."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from bench.compute.exchange.artifact import load_program
from bench.compute.exchange.onnx_model import OnnxModel, whole_onnx
from bench.compute.sources.source import Source, Wanted, library, require
from bench.errors import UserError, first_line
from bench.record.files import sha256


def onnx() -> Source:
    """Return models in ONNX files, which run in onnxruntime and openvino; inference alone."""
    return Source(
        build=_build_onnx,
        origin=_onnx_origin,
        input_size=_onnx_input_size,
        trainable=False,
        runtime="onnxruntime",
    )


def pt2() -> Source:
    """Return programs that torch.export saved (.pt2); inference alone."""
    return Source(build=_build_pt2, origin=_pt2_origin, trainable=False)


def _onnx_origin(path: str) -> dict[str, str]:
    file = _onnx_file(path)
    return library("onnxruntime") | {"file_sha256": sha256(file)}


def _onnx_input_size(path: str) -> int | None:
    side = OnnxModel(whole_onnx(_onnx_file(path)).SerializeToString()).image_shape[-1]
    return side if isinstance(side, int) else None


def _pt2_origin(path: str) -> dict[str, str]:
    return library("torch") | {"file_sha256": sha256(_file("pt2", path))}


def _onnx_file(path: str) -> Path:
    """Return the file; a missing one is a nearer fault than a missing extra to read it with."""
    file = _file("onnx", path)
    require("onnx", "onnx", "onnx", "onnxruntime")
    return file


def _file(prefix: str, path: str) -> Path:
    file = Path(path).expanduser()
    if not file.is_file() or file.stat().st_size == 0:  # which may be one that is waited for
        raise UserError(f"{prefix}:{path}: there is no such file, or it is empty")
    return file


def _build_onnx(path: str, wanted: Wanted) -> nn.Module:
    name = f"onnx:{path}"
    _refuse_arguments(name, wanted)
    file = _onnx_file(path)
    try:
        model = OnnxModel(whole_onnx(file).SerializeToString())
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except Exception as error:  # a damaged or hostile file can raise anything
        raise UserError(f"{name} is no ONNX model that can be run: {first_line(error)}") from None
    expected = (wanted.in_channels, wanted.image_size, wanted.image_size)
    if not model.takes(expected):
        takes = "×".join(map(str, model.image_shape))
        raise UserError(f"{name} takes images of {takes}, not {'×'.join(map(str, expected))}")
    return model


def _build_pt2(path: str, wanted: Wanted) -> nn.Module:
    _refuse_arguments(f"pt2:{path}", wanted)
    return Exported(load_program(_file("pt2", path)).module())


def _refuse_arguments(name: str, wanted: Wanted) -> None:
    if wanted.arguments:
        raise UserError(f"{name} was exported as it is, and takes no arguments in brackets")


class Exported(nn.Module):
    """An exported program as a module: it is what it was exported as, training or evaluating."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """Return the program's logits (B, K) of images (B, C, H, W)."""
        logits: Tensor = self.program(images)
        return logits

    def train(self, mode: bool = True) -> Exported:
        """Stay as exported: torch refuses to switch what was traced in one mode."""
        return self
