"""Tensors on disk: safetensors, never a pickle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from recomind.artifacts.checked_reading import reading
from recomind.errors import ArtifactError

_MAX_HEADER = 64 * 2**20  # bytes: names, types and shapes of some hundred thousand tensors


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors; where several are one memory, each is written whole."""
    own: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().contiguous()
        storage = plain.untyped_storage().data_ptr()
        own[name] = plain.clone() if storage in seen else plain
        seen.add(storage)
    safetensors.torch.save_file(own, path)


def load_tensors(path: Path, *, finite: bool = True) -> dict[str, Tensor]:
    """Read safetensors.

    Args:
        path: of the file.
        finite: refuse NaN and infinities, which no weights have; False for the state of a
            training, where a best loss begins at infinity.

    Raises:
        ArtifactError: the file is absent, is not safetensors, or holds what is no number.
    """
    with reading("tensor file", path):
        _check_header(Path(path))
        tensors = safetensors.torch.load_file(path)
    if finite:
        _require_finite(tensors, path)
    return tensors


def _check_header(path: Path) -> None:
    """The reader believes the length that a file gives for its header."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, _MAX_HEADER):
        raise ValueError(f"a header of {length} bytes in a file of {size}")


def _require_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        # One pass for the sum; only a sum that overflows asks for a look at each.
        if not tensor.is_floating_point() or math.isfinite(float(tensor.sum())):
            continue
        bad = int((~tensor.isfinite()).sum())
        if bad:
            raise ArtifactError(
                "a tensor is not finite",
                got=f"{name!r} in {path}: {bad} of {tensor.numel()} numbers",
                mend="what was trained has diverged, or the file was changed: make it anew",
            )


def first_mismatch(error: RuntimeError) -> str:
    r"""The first line of `load_state_dict`'s error that names a tensor.

    >>> first_mismatch(RuntimeError("Error(s) in loading:\n\tsize mismatch for a: 1\n\t..."))
    'size mismatch for a: 1'
    """
    lines = [line.strip() for line in str(error).splitlines()]
    return lines[1] if len(lines) > 1 else str(error)
