"""What drift alarms watch of logged sessions.

Symbols: `R` events, `S` sessions, `D` dense item features, `H` tasks, `F` numbers of a kind.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.data import SessionDataset
from recomind.evaluation.drift import CALIBRATION, EXIT, INPUT, Watched
from recomind.ranker import predict
from recomind.types import Ranker


def watched_of(dataset: SessionDataset, rows: Tensor, ranker: Ranker) -> dict[str, Watched]:
    """Kind -> a number for each session of the events `rows` [R].

    Inputs are user features and dense features of what was shown. Calibration is what happened less
    what was predicted, and the square of that (the Brier score's terms), for each task: where
    tastes turn and the base rate stays, only the square moves. The exit is the share of events
    after which the user left, where that is known.
    """
    _, session_R = dataset.session_index(rows).unique(return_inverse=True)
    shown_RD = dataset.catalogue.features(dataset.item_id(rows), dataset.snapshot(rows)).dense
    inputs_RF = torch.cat([dataset.state(rows).user_features, shown_RD], dim=1)
    logits_RH, labels_RH = predict(ranker, dataset, rows)
    error_RH = labels_RH - logits_RH.sigmoid()
    errors_RF = torch.cat([error_RH, error_RH.square()], dim=1)
    error_names = [*ranker.tasks, *(f"{task}, squared error" for task in ranker.tasks)]
    left_R1 = dataset.left(rows).double()[:, None]
    left_R1[~dataset.left_known(rows)] = torch.nan
    names = [*dataset.user_feature_names, *dataset.catalogue.dense_names]
    parts = {
        INPUT: (names, inputs_RF),
        CALIBRATION: (error_names, errors_RF),
        EXIT: (["left"], left_R1),
    }
    return {
        kind: Watched(names=names, values=_by_session(values.double(), session_R))
        for kind, (names, values) in parts.items()
        if values.shape[1]
    }


def _by_session(values_RF: Tensor, session_R: Tensor) -> Tensor:
    """[S, F] means over the events of each session that have a value; NaN where none has."""
    num = int(session_R.max()) + 1 if len(session_R) else 0
    known_RF = ~values_RF.isnan()
    total_SF = torch.zeros(num, values_RF.shape[1], dtype=torch.float64)
    count_SF = torch.zeros_like(total_SF)
    total_SF.index_add_(0, session_R, values_RF.nan_to_num(0.0))
    count_SF.index_add_(0, session_R, known_RF.double())
    return total_SF / count_SF  # 0 / 0 is NaN
