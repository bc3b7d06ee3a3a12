"""Bounds for a module that is built from sizes which a manifest names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

_SLACK = 2**20  # numbers beside the weights, such as those that an initialisation works with


class NoLargerThan(TorchDispatchMode):
    """Refuse fresh tensors of more numbers, together, than the weights of an artifact have bytes.

    A module is built before its weights are read, and one whose manifest says 2^31 features takes
    8 GB for each of its columns, and minutes, to learn that the file holds eleven.

    Args:
        folder: the artifact, whose safetensors hold all that the module is given.

    Raises:
        ValueError: the module would be larger.

    >>> import torch
    >>> with NoLargerThan(Path("no-such-folder")):
    ...     torch.zeros(10_000, 10_000)
    Traceback (most recent call last):
    ValueError: the manifest names sizes of 100000000 numbers, its weights have 0 bytes
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._bytes = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
        self._made = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Count what is made from nothing, before it is made."""
        del types
        size = args[0] if args else None
        if isinstance(size, (list, tuple)) and all(isinstance(n, int) for n in size):
            self._made += math.prod(size)  # what is made of other tensors has no size here
            if self._made > self._bytes + _SLACK:
                raise ValueError(
                    f"the manifest names sizes of {self._made} numbers, "
                    f"its weights have {self._bytes} bytes"
                )
        return func(*args, **(kwargs or {}))
