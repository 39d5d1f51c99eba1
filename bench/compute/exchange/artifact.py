"""Artefacts: deployments as files, ``.onnx``, ``.xml`` (OpenVINO) and ``.pt2`` (torch.export).

A file is written from the session that is timed, and read into one; it takes one size of batch.
"""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.compute.compiler import prepare_compiler
from bench.compute.exchange import exported
from bench.compute.exchange.onnx_model import whole_onnx
from bench.compute.session import Session, adapter, check_extra, stored_bytes
from bench.errors import UserError, one_line, said
from bench.record.files import write_whole

RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "pt2": "compile"}
"""What runs each kind of artefact."""
ENDINGS = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}
PICKLE = b"\x80"  # how every pickle since protocol 2 begins
ZIP = b"PK\x03\x04"  # how what torch.save writes begins
LARGEST_CONFIG = 1 << 24
# What reading a forged archive may raise: another method of compression, or JSON of another kind.
MALFORMED = (ValueError, AttributeError, NotImplementedError, RecursionError, zlib.error)


def is_artifact(source: str) -> bool:
    """Tell whether a file's name is that of an artefact, by its ending."""
    return Path(source).suffix in ENDINGS.values()


def read(path: Path, image_size: int) -> tuple[Session, int]:
    """Return a session of the artefact in a file, and the batch size that it takes.

    UserError where there is no such file, where it cannot be read, or where it does not take
    images (B, 3, ``image_size``, ``image_size``) and give logits (B, classes), B being a number.
    """
    if not path.is_file():
        raise UserError(f"{path} is not there")
    return READERS[path.suffix](path, image_size)


def _checked(path: Path, shape: list[int | None], num_inputs: int, image_size: int) -> Tensor:
    """Return an example of what the artefact takes; UserError where that is no batch of images."""
    if num_inputs != 1:
        raise UserError(f"{path} takes {num_inputs} inputs; one, images (B, 3, H, W), is expected")
    shown = ", ".join("?" if size is None else str(size) for size in shape)
    if len(shape) != 4 or shape[1] not in (3, None):
        raise UserError(f"{path} takes ({shown}); images (B, 3, H, W) are expected")
    if None in shape:
        raise UserError(
            f"{path} takes ({shown}): its shape is dynamic; export it with numbers in place of ?"
        )
    if shape[2:] != [image_size, image_size]:
        raise UserError(f"{path} takes ({shown}); the images are {image_size}×{image_size}")
    return torch.zeros([size or 0 for size in shape])


def _read_onnx(path: Path, image_size: int) -> tuple[Session, int]:
    check_extra(
        "reading this file",
        "onnx",
        (
            "onnx",
            "onnxruntime",
        ),
    )
    model = whole_onnx(path)
    own = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in own]
    dims = inputs[0].type.tensor_type.shape.dim if inputs else []
    shape = [dim.dim_value or None for dim in dims]
    example = _checked(path, shape, len(inputs), image_size)
    try:
        session = exported.onnx_session(model.SerializeToString(), example, "cpu", "fp32")
    except Exception as error:
        raise UserError(f"ONNX Runtime cannot run {path}: {said(error)}") from None
    return session, len(example)


def _read_openvino(path: Path, image_size: int) -> tuple[Session, int]:
    check_extra("reading this file", "openvino", ("openvino",))
    import openvino as ov

    if not path.with_suffix(".bin").is_file():
        raise UserError(f"{path} keeps its weights in {path.stem}.bin, which is not beside it")
    try:
        model = ov.Core().read_model(path)
    except Exception as error:
        raise UserError(f"{path} is not a model of OpenVINO: {said(error)}") from None
    inputs = model.inputs
    known = inputs[0].get_partial_shape() if inputs else []
    shape = [None if dim.is_dynamic else dim.get_length() for dim in known]
    example = _checked(path, shape, len(inputs), image_size)
    compiled = exported.compile_openvino(model, "fp32")
    return exported.openvino_session(model, compiled), len(example)


def _read_pt2(path: Path, image_size: int) -> tuple[Session, int]:
    import torch._inductor.config as config

    program = load_program(path)
    inputs = [
        node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs
    ]
    known = inputs[0].meta["val"].shape if inputs else []
    shape = [size if isinstance(size, int) else None for size in known]
    example = _checked(path, shape, len(inputs), image_size)
    network = program.module()
    prepare_compiler()
    compiled = torch.compile(network, dynamic=False, fullgraph=True)

    def call(images: Tensor) -> Tensor:
        with torch.no_grad(), config.patch(freezing=True):
            logits: Tensor = compiled(images)
        return logits

    weight_bytes = stored_bytes(network)
    return Session(call, adapter("cpu", "fp32"), weight_bytes=weight_bytes), len(example)


def load_program(path: Path) -> torch.export.ExportedProgram:
    """Read a .pt2 archive, nothing of which is executed; UserError for what is none."""
    refuse_pickles(path)
    with contextlib.suppress(ImportError), exported.quiet():  # the operators of int8 programs
        import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer  # noqa: F401
    try:
        return torch.export.load(path)
    except Exception as error:
        raise UserError(f"{path} is not a program of torch.export: {said(error)}") from None


def refuse_pickles(path: Path) -> None:
    """Raise UserError for a .pt2 archive that torch would unpickle, and so execute, when loading.

    What `save_program` writes holds none: weights are raw bytes, and there are no sample inputs.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if why := _why_unpickled(archive, member):
                    raise UserError(
                        f"{path} holds {why}, {member.filename}: loading it would execute whatever"
                        " was pickled; write it with senet-bench export, or set the program's"
                        " _example_inputs to None before torch.export.save"
                    )
    except UserError:
        raise
    except (zipfile.BadZipFile, OSError, *MALFORMED) as error:
        raise UserError(f"{path} is not a .pt2 archive: {one_line(error)}") from None


def _why_unpickled(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str | None:
    """Return what in a member makes torch unpickle it, None for raw bytes and JSON."""
    name = member.filename
    if name.endswith("_config.json"):
        if member.file_size > LARGEST_CONFIG:
            raise zipfile.BadZipFile(f"{name} of {member.file_size:,} bytes")
        listed = json.loads(archive.read(member)).get("config", {}).values()
        pickled = any(entry.get("use_pickle") for entry in listed)
        return "weights that are marked as pickled" if pickled else None
    if "/data/weights/" in name and "_config" not in name:
        return None  # raw bytes, as its configuration says: any of them may begin like a pickle
    with archive.open(member) as file:
        begins = file.read(len(ZIP))
    if begins.startswith(PICKLE) or begins == ZIP:
        return "a pickled member"
    return None


def save_program(network: nn.Module, example: Tensor, path: Path) -> None:
    """Write a network as a .pt2 archive for batches like ``example``, without pickled members."""
    with torch.no_grad():
        program = torch.export.export(network, (example,))
    program._example_inputs = None  # what torch would pickle
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    write_whole(path, buffer.getbuffer())
    refuse_pickles(path)


Reader = Callable[[Path, int], tuple[Session, int]]
READERS: dict[str, Reader] = {".onnx": _read_onnx, ".xml": _read_openvino, ".pt2": _read_pt2}
