"""One run, its stages and what they leave on disk; see `recomind.pipeline.rounds`."""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.pipeline.registry import complete_command
    from recomind.pipeline.run import Round, Run
    from recomind.pipeline.stage import Stage, complete
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = ["Round", "Run", "Stage", "complete", "complete_command"]
