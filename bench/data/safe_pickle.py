"""Read a pickle of numpy arrays and plain containers in which no code can run."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

# The function that numpy's own pickles call, wherever this version of numpy keeps it.
_reconstruct: Any = np.empty(0).__reduce__()[0]


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """Stand in for codecs.encode, by which Python 3 writes bytes into an old pickle."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"an encoding of {encoding!r}")
    return text.encode("latin1")


ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1_bytes,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Callable[..., Any]:
        """Return what the pickle may use by name; nothing is ever imported."""
        if (module_name, global_name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}")
        return ALLOWED[module_name, global_name]


def loads_arrays(content: bytes) -> object:
    """Return what a pickle holds; ValueError when it is damaged or asks for anything else.

    Strings of Python 2 are read as Latin-1, as numpy's arrays need it.
    """
    try:
        return _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a damaged pickle can raise any exception
        raise ValueError(f"not a pickle of arrays: {error or type(error).__name__}") from None
