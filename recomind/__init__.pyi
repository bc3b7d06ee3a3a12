from recomind.pipeline.finished import FinishedRun, open_run
from recomind.pipeline.play import evaluate

__version__: str
__all__ = ["FinishedRun", "__version__", "evaluate", "open_run"]
