"""The supervised multi-task ranker."""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.ranker.calibration import Calibration, calibration_curve
    from recomind.ranker.config import RankerConfig
    from recomind.ranker.encodings import StateEncoding
    from recomind.ranker.metrics import grouped_auc, quality, quality_report, report_groups, roc_auc
    from recomind.ranker.model import SessionRanker, utility
    from recomind.ranker.prediction import log_loss, predict, predict_blocks
    from recomind.ranker.recipe import load_weights
    from recomind.ranker.store import load_rankers, save_rankers, tasks_of, trunk_of
    from recomind.ranker.training import (
        calibrate_on,
        fit_ranker,
        later_rows,
        new_ranker,
        training_rows,
    )
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "Calibration",
    "RankerConfig",
    "SessionRanker",
    "StateEncoding",
    "calibrate_on",
    "calibration_curve",
    "fit_ranker",
    "grouped_auc",
    "later_rows",
    "load_rankers",
    "load_weights",
    "log_loss",
    "new_ranker",
    "predict",
    "predict_blocks",
    "quality",
    "quality_report",
    "report_groups",
    "roc_auc",
    "save_rankers",
    "tasks_of",
    "training_rows",
    "trunk_of",
    "utility",
]
