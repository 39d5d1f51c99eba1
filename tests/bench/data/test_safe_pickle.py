"""Pickles of arrays are read; no pickle can run anything."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.safe_pickle import loads_arrays


class Runs:
    """Unpickling it calls a function."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_arrays_and_plain_containers_come_back(protocol: int) -> None:
    """What CIFAR's files hold is read, whatever the protocol."""
    array = np.arange(24, dtype=np.uint8).reshape(4, 6)
    held = {"data": array, "labels": [1, 2], "filenames": ["a", "b"], "nested": ({"x": None}, 1.5)}
    found = loads_arrays(pickle.dumps(held, protocol=protocol))
    assert isinstance(found, dict)
    assert np.array_equal(found.pop("data"), array)
    assert found == {"labels": [1, 2], "filenames": ["a", "b"], "nested": ({"x": None}, 1.5)}


def test_a_pickle_of_python_2_is_read() -> None:
    """The official files are of Python 2: bytes are strings, and numpy has a core."""
    state = b"\xff\x00\x80"
    written = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"(I1\n(I3\ntcnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\n"
        b"S'\\xff\\x00\\x80'\ntb."
    )
    found = loads_arrays(written)
    assert isinstance(found, np.ndarray)
    assert found.tobytes() == state


@pytest.mark.parametrize(
    "function",
    [os.system, eval, exec, print, __import__, getattr, np.load, np.fromfile, io.open],
    ids=lambda function: function.__name__,
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_functions_are_refused(function: object, protocol: int) -> None:
    """Anything but what arrays are made of is refused by its name."""
    content = pickle.dumps({"data": Runs(function, "1")}, protocol=protocol)
    with pytest.raises(ValueError, match="it asks for"):
        loads_arrays(content)


def test_a_malicious_pickle_leaves_no_trace(tmp_path: Path) -> None:
    """The command in it is not run."""
    trace = tmp_path / "trace"
    with pytest.raises(ValueError, match=r"it asks for \w+\.system"):
        loads_arrays(pickle.dumps(Runs(os.system, f"touch {trace}")))
    assert not trace.exists()


def test_attributes_of_what_is_allowed_are_out_of_reach() -> None:
    """Dotted names, by which protocol 4 reaches inside of a module, are refused as well."""
    content = b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.tofile.x\x93."
    with pytest.raises(ValueError, match="it asks for"):
        loads_arrays(content)


def test_codecs_encode_knows_latin1_only() -> None:
    """Other encodings, whose lookup would import a module, are refused."""
    with pytest.raises(ValueError, match="an encoding of 'evil'"):
        loads_arrays(b"c_codecs\nencode\n(VA\nVevil\ntR.")
    assert loads_arrays(b"c_codecs\nencode\n(VA\nVlatin1\ntR.") == b"A"


def test_a_truncated_pickle_is_a_value_error() -> None:
    """Wherever it is cut, the error is the same kind."""
    content = pickle.dumps({"data": np.zeros((3, 4), np.uint8), "labels": [0, 1, 2]}, protocol=2)
    for length in range(len(content)):
        with pytest.raises(ValueError, match="not a pickle of arrays"):
            loads_arrays(content[:length])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_give_a_value_or_a_value_error(content: bytes) -> None:
    """No other exception leaves the reader."""
    with contextlib.suppress(ValueError):
        loads_arrays(content)
