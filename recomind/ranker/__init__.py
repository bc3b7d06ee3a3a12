"""The supervised multi-task ranker."""

from recomind.ranker.calibration import calibration_curve
from recomind.ranker.config import RankerConfig
from recomind.ranker.model import SessionRanker, StateEncoding, utility
from recomind.ranker.store import (
    load_rankers,
    load_weights,
    quality,
    save_rankers,
)
from recomind.ranker.training import (
    calibrate,
    fit_ranker,
    log_loss,
    new_ranker,
    predict,
)

__all__ = [
    "RankerConfig",
    "SessionRanker",
    "StateEncoding",
    "calibrate",
    "calibration_curve",
    "fit_ranker",
    "load_rankers",
    "load_weights",
    "log_loss",
    "new_ranker",
    "predict",
    "quality",
    "save_rankers",
    "utility",
]
