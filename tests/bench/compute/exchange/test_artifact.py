"""Artefacts as files: what is written is read again, and what cannot be run is told in a line."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from pathlib import Path

import deployed
import pytest
import torch
from torch import Tensor, nn

from bench.compute import inference
from bench.compute.exchange.artifact import is_artifact, read, refuse_pickles, save_program
from bench.errors import UserError
from bench.measure.workload import computing

EXAMPLE = torch.zeros(4, 3, deployed.SIZE, deployed.SIZE)
needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None or importlib.util.find_spec("onnx") is None,
    reason="onnx and onnxruntime are not installed",
)
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)


def images() -> Tensor:
    return torch.randn(
        4, 3, deployed.SIZE, deployed.SIZE, generator=torch.Generator().manual_seed(3)
    )


def saved(runtime: str, path: Path) -> Path:
    with computing("cpu", "fp32", "infer"):
        session = inference.make(runtime, deployed.network(), EXAMPLE, "cpu", "fp32")
        assert session.save is not None
        session.save(path)
    return path


@pytest.mark.parametrize(
    ("runtime", "name"),
    [
        pytest.param("onnxruntime", "a.onnx", marks=needs_onnx),
        pytest.param("openvino", "a.xml", marks=needs_openvino),
    ],
)
def test_what_is_written_gives_the_same_logits_when_it_is_read(
    runtime: str, name: str, tmp_path: Path
) -> None:
    session, batch_size = read(saved(runtime, tmp_path / name), deployed.SIZE)
    assert batch_size == 4
    with torch.inference_mode():
        logits = session.call(session.adapt(images()))
        assert torch.allclose(logits, deployed.network()(images()), atol=1e-4)


def test_a_program_of_torch_is_written_without_pickles_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    save_program(deployed.network(), EXAMPLE, path)
    refuse_pickles(path)
    program = torch.export.load(path)
    with torch.inference_mode():
        assert torch.allclose(program.module()(images()), deployed.network()(images()), atol=1e-5)


class Evil:
    """What a pickle may hold: a call."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("pwned"),))  # type: ignore[return-value]


def test_an_archive_with_pickled_members_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch itself pickles sample inputs; a forged archive pickles a call. Neither is loaded."""
    monkeypatch.chdir(tmp_path)
    torch.export.save(torch.export.export(deployed.network(), (EXAMPLE,)), "sampled.pt2")
    with pytest.raises(UserError, match=r"holds a pickled member, .*sample_inputs/model.pt: load"):
        read(Path("sampled.pt2"), deployed.SIZE)
    import pickle

    with zipfile.ZipFile("forged.pt2", "w") as archive:
        archive.writestr("a/data/constants/custom_obj_0", pickle.dumps(Evil()))
    with pytest.raises(UserError, match="a pickled member"):
        read(Path("forged.pt2"), deployed.SIZE)
    config = '{"config": {"w": {"path_name": "weight_0", "use_pickle": true}}}'
    with zipfile.ZipFile("marked.pt2", "w") as archive:
        archive.writestr("a/data/weights/a_weights_config.json", config)
    with pytest.raises(UserError, match="marked as pickled"):
        read(Path("marked.pt2"), deployed.SIZE)
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    "config",
    ["[1]", "{", '{"config": [1]}', '{"config": {"w": 1}}', "[" * 100_000, " " * (1 << 25)],
)
def test_an_archive_whose_list_of_weights_is_none_is_refused(config: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data/weights/a_weights_config.json", config)
    with pytest.raises(UserError, match=r"is not a \.pt2 archive") as caught:
        refuse_pickles(tmp_path / "a.pt2")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.onnx", "a.xml", "a.pt2"])
def test_a_file_that_is_none_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    if name == "a.onnx" and importlib.util.find_spec("onnx") is None:
        pytest.skip("onnx is not installed")
    if name == "a.xml" and importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    with pytest.raises(UserError, match="is not there"):
        read(tmp_path / name, 8)
    (tmp_path / name).write_bytes(b"no model at all")
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"is not a") as caught:
        read(tmp_path / name, 8)
    assert "\n" not in str(caught.value)


def onnx_model(path: Path, shape: tuple[int | str, ...], network: nn.Module | None = None) -> Path:
    """Write an ONNX model whose input is said to have a shape."""
    import onnx

    saved("onnxruntime", path)
    model = onnx.load(path)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    del dims[:]
    for size in shape:
        dim = dims.add()
        if isinstance(size, str):
            dim.dim_param = size
        else:
            dim.dim_value = size
    onnx.save(model, path)
    return path


@needs_onnx
@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (("batch", 3, 8, 8), r"takes \(\?, 3, 8, 8\): its shape is dynamic"),
        ((4, 3, 16, 16), r"takes \(4, 3, 16, 16\); the images are 8×8"),
        ((4, 8), r"takes \(4, 8\); images \(B, 3, H, W\) are expected"),
        ((4, 1, 8, 8), r"takes \(4, 1, 8, 8\); images \(B, 3, H, W\) are expected"),
    ],
)
def test_an_input_that_is_no_batch_of_images_is_refused(
    shape: tuple[int | str, ...], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        read(onnx_model(tmp_path / "a.onnx", shape), 8)


@needs_onnx
def test_weights_in_another_file_have_to_be_beside_the_model(tmp_path: Path) -> None:
    """External data is read where it lies beside the model, and never from elsewhere."""
    import onnx

    path = saved("onnxruntime", tmp_path / "a.onnx")
    onnx.save(
        onnx.load(path),
        path,
        save_as_external_data=True,
        location="weights.data",
        size_threshold=0,
    )
    session, _ = read(path, 8)
    with torch.inference_mode():
        found = session.call(session.adapt(images()))
        assert torch.allclose(found, deployed.network()(images()), atol=1e-4)
    (tmp_path / "weights.data").rename(tmp_path / "elsewhere.data")
    with pytest.raises(UserError, match=r"keeps weights in weights.data, which is not beside it"):
        read(path, 8)


@needs_openvino
def test_weights_of_openvino_have_to_be_beside_the_model(tmp_path: Path) -> None:
    path = saved("openvino", tmp_path / "a.xml")
    (tmp_path / "a.bin").unlink()
    with pytest.raises(UserError, match=r"keeps its weights in a.bin, which is not beside it"):
        read(path, 8)


def test_artefacts_are_told_by_their_endings() -> None:
    assert [
        is_artifact(n) for n in ("a.onnx", "b/a.xml", "a.pt2", "a.pt", "run", "a.safetensors")
    ] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def test_what_begins_like_a_pickle_among_raw_weights_is_no_pickle(tmp_path: Path) -> None:
    """A weight's first byte may be any, such as the one that pickles begin with."""
    network = nn.Conv2d(3, 4, 1)
    with torch.no_grad():
        network.weight.view(-1).view(torch.uint8)[0] = 0x80
    save_program(network, EXAMPLE, tmp_path / "a.pt2")
    assert io.BytesIO((tmp_path / "a.pt2").read_bytes()).read(2) == b"PK"
