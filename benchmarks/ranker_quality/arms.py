"""The arms that ours is compared with: each fits a model and gives probabilities for any rows.

`fit(log, aggregates, seed)` returns a function of rows [R] and `frozen` to probabilities [R, H].
Whatever was chosen here (features, sizes, when to stop) was chosen on the calibration day.
"""

from __future__ import annotations

from collections.abc import Callable

import lightgbm
import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.ranker_quality.aggregates import NUMBERS, Aggregates, six_means
from benchmarks.ranker_quality.impressions import TASKS, Impressions, Predict
from benchmarks.ranker_quality.nets import DEEPFM, DEEPFM_AGGREGATES, DIN, Net

Fit = Callable[[Impressions, Aggregates, int], Predict]
_TREES = {
    "objective": "binary",
    "metric": "auc",
    "learning_rate": 0.05,
    "max_depth": 3,
    "num_leaves": 8,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "num_threads": 1,
    "deterministic": True,
    "verbosity": -1,
}
_MAX_TREES, _STOP_AFTER = 2000, 60


def fit_means(log: Impressions, aggregates: Aggregates, seed: int) -> Predict:
    """Logistic regression on six smoothed means a task; nothing in it depends on the seed."""
    del aggregates, seed
    models = []
    for task, name in enumerate(TASKS):
        features = six_means(log, name, log.train, frozen=False)
        models.append(LogisticRegression().fit(features, log.label_EH[log.train, task]))

    def predict(rows: np.ndarray, frozen: bool) -> np.ndarray:
        features = [six_means(log, name, rows, frozen=frozen) for name in TASKS]
        pairs = zip(models, features, strict=True)
        return np.stack([model.predict_proba(x)[:, 1] for model, x in pairs], axis=1)

    return predict


def fit_lightgbm(log: Impressions, aggregates: Aggregates, seed: int) -> Predict:
    """Trees on the live aggregates, stopped by the calibration day's AUC."""

    def features(rows: np.ndarray, frozen: bool) -> np.ndarray:
        return np.concatenate([aggregates.block(b, rows, frozen=frozen) for b in NUMBERS], axis=1)

    train_RF, later_RF = features(log.train, False), features(log.calibration, False)
    models = []
    for task in range(len(TASKS)):
        data = lightgbm.Dataset(train_RF, log.label_EH[log.train, task])
        later = lightgbm.Dataset(later_RF, log.label_EH[log.calibration, task], reference=data)
        stop = lightgbm.early_stopping(_STOP_AFTER, verbose=False)
        settings = _TREES | {"seed": seed}
        models.append(lightgbm.train(settings, data, _MAX_TREES, [later], callbacks=[stop]))

    def predict(rows: np.ndarray, frozen: bool) -> np.ndarray:
        given = features(rows, frozen)
        return np.stack([np.asarray(model.predict(given)) for model in models], axis=1)

    return predict


def fit_deepfm(log: Impressions, aggregates: Aggregates, seed: int) -> Predict:
    """DeepFM on ids alone."""
    return Net(log, aggregates, DEEPFM, seed)


def fit_deepfm_aggregates(log: Impressions, aggregates: Aggregates, seed: int) -> Predict:
    """DeepFM on ids and on the numbers that the trees have."""
    return Net(log, aggregates, DEEPFM_AGGREGATES, seed)


def fit_din(log: Impressions, aggregates: Aggregates, seed: int) -> Predict:
    """DIN on ids and the videos watched before."""
    return Net(log, aggregates, DIN, seed)


BASELINES: dict[str, Fit] = {
    "means": fit_means,
    "lightgbm": fit_lightgbm,
    "deepfm": fit_deepfm,
    "deepfm_aggregates": fit_deepfm_aggregates,
    "din": fit_din,
}
