"""Rankers that exist already, each behind the same two calls: encode the state, score items.

A model of flat rows takes what one function of the user makes of a `RowBatch`; a module with
`encode` and `score` of its own takes a `StateBatch` once and is asked for any items after that.
"""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.ranker.adapters.batches import RowBatch, Scorer, StateBatch
    from recomind.ranker.adapters.flat_rows import FlatRows
    from recomind.ranker.adapters.lightgbm_text import load_boosters
    from recomind.ranker.adapters.onnx_file import load_onnx
    from recomind.ranker.adapters.split import SplitModule, is_split
    from recomind.ranker.adapters.torch_module import load_torch, load_torchscript, unpacking
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "FlatRows",
    "RowBatch",
    "Scorer",
    "SplitModule",
    "StateBatch",
    "is_split",
    "load_boosters",
    "load_onnx",
    "load_torch",
    "load_torchscript",
    "unpacking",
]
