"""The supervised multi-task ranker."""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.ranker.calibration import Calibration, calibration_curve
    from recomind.ranker.capabilities import HasOwnRanker, frozen_copy, two_tower_part
    from recomind.ranker.config import ExternalConfig, ExternalKind, RankerConfig, RefitOn
    from recomind.ranker.encodings import ItemEncoding, StateEncoding
    from recomind.ranker.external import CompletedRanker, ExternalRanker, load_external
    from recomind.ranker.history import Events, StateParts, events_of
    from recomind.ranker.metrics import grouped_auc, quality, quality_report, report_groups, roc_auc
    from recomind.ranker.model import SessionRanker, utility
    from recomind.ranker.prediction import log_loss, predict, predict_blocks
    from recomind.ranker.recipe import load_weights
    from recomind.ranker.stamp import Stamp
    from recomind.ranker.store import load_rankers, save_rankers, start_from, tasks_of, trunk_of
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
    "CompletedRanker",
    "Events",
    "ExternalConfig",
    "ExternalKind",
    "ExternalRanker",
    "HasOwnRanker",
    "ItemEncoding",
    "RankerConfig",
    "RefitOn",
    "SessionRanker",
    "Stamp",
    "StateEncoding",
    "StateParts",
    "calibrate_on",
    "calibration_curve",
    "events_of",
    "fit_ranker",
    "frozen_copy",
    "grouped_auc",
    "later_rows",
    "load_external",
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
    "start_from",
    "tasks_of",
    "training_rows",
    "trunk_of",
    "two_tower_part",
    "utility",
]
