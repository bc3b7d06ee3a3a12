"""Models that exist already, each behind the same two calls: encode the state, score items.

A model of flat rows takes what one function of the user makes of a `RowBatch`; a module with
`encode` and `score` of its own takes a `StateBatch` once and is then asked about any items.
"""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.adapters.batches import RowBatch, Scorer, StateBatch
    from recomind.adapters.config import ExternalConfig, ExternalKind, OutputKind
    from recomind.adapters.files import copy_model, model_path
    from recomind.adapters.flat_rows import FlatRows
    from recomind.adapters.loading import load_scorer
    from recomind.adapters.settings import require_settings, require_tasks
    from recomind.adapters.split import SplitModule
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "ExternalConfig",
    "ExternalKind",
    "FlatRows",
    "OutputKind",
    "RowBatch",
    "Scorer",
    "SplitModule",
    "StateBatch",
    "copy_model",
    "load_scorer",
    "model_path",
    "require_settings",
    "require_tasks",
]
