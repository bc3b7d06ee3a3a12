"""recomind: a supervised ranker in, a session-level reinforcement-learning recommender out."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["FinishedRun", "__version__", "evaluate", "open_run"]  # pyright: ignore[reportUnsupportedDunderAll]

# Imported when they are first asked for, so that `import recomind` stays instant; their types are
# in `__init__.pyi`.
_HOMES = {
    "FinishedRun": "recomind.pipeline.finished",
    "open_run": "recomind.pipeline.finished",
    "evaluate": "recomind.pipeline.play",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
