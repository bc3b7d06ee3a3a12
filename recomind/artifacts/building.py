"""Bounds for a module that is built from sizes which a manifest names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_SLACK = 2**20  # numbers beside the weights, such as those that an initialisation works with

_MAKERS = {torch.empty, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros}


class NoLargerThan(TorchFunctionMode):
    """Refuse fresh tensors of more numbers, together, than the weights of an artifact have bytes.

    A module is built before its weights are read, and one whose manifest says 2^31 features takes
    8 GB for each of its columns, and minutes, to learn that the file holds eleven.

    Args:
        folder: the artifact, whose safetensors hold all that the module is given.

    Raises:
        ValueError: the module would be larger.

    >>> with NoLargerThan(Path("no-such-folder")):
    ...     torch.zeros(10_000, 10_000)
    Traceback (most recent call last):
    ValueError: the manifest names sizes of 100000000 numbers, its weights have 0 bytes
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._bytes = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
        self._made = 0

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Count what is made from nothing, before it is made."""
        del types
        if func in _MAKERS:
            self._made += math.prod(_size(args))
            if self._made > self._bytes + _SLACK:
                raise ValueError(
                    f"the manifest names sizes of {self._made} numbers, "
                    f"its weights have {self._bytes} bytes"
                )
        return func(*args, **(kwargs or {}))


def _size(args: Sequence[Any]) -> Sequence[int]:
    """The shape that a maker was asked for: `(2, 3)`, or `2, 3`."""
    return args[0] if args and isinstance(args[0], (list, tuple)) else args
