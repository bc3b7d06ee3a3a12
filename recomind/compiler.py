"""Puts off the import of torch's compiler, which takes nearly as long as torch's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_MARKS = ("allow_in_graph", "assume_constant_result")


@contextmanager
def without_compiler() -> Iterator[None]:
    """Within this block, importing tensordict does not import torch's compiler.

    tensordict marks some of its functions for the compiler while it is imported: copies that do
    not block, batching under `vmap`, a warning. Each mark imports `torch._dynamo`, and with it
    sympy and torch.distributed: two seconds of processor time, or one where torchrec is imported
    too. Here a mark does nothing, unless the compiler is there already; what we compile calls none
    of these functions.
    """
    import torch.compiler

    if "torch._dynamo" in sys.modules:
        yield
        return
    kept = {name: getattr(torch.compiler, name) for name in _MARKS}
    try:
        for name in kept:
            setattr(torch.compiler, name, _unmarked)
        yield
    finally:
        for name, mark in kept.items():
            setattr(torch.compiler, name, mark)


def _unmarked(function: Callable[..., Any]) -> Callable[..., Any]:
    return function
