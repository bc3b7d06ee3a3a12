"""Our ranker as an arm: the settings of `conf/experiment/kuairand.yaml`, one model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from omegaconf import OmegaConf

from benchmarks.ranker_quality.impressions import TASKS, Impressions, Predict
from recomind.config import conf_dir
from recomind.data import SessionDataset
from recomind.ranker import RankerConfig, fit_ranker, later_rows, new_ranker, training_rows

SETTINGS = "experiment/kuairand.yaml"
_Rows = Callable[[SessionDataset], torch.Tensor]


def ranker_config() -> RankerConfig:
    """The settings that `recomind run experiment=kuairand` has."""
    settings = OmegaConf.to_container(OmegaConf.load(conf_dir() / SETTINGS))
    return RankerConfig(**settings["ranker"])  # type: ignore[index, call-overload, arg-type]


def fit_ours(log: Impressions, seed: int, cold_N: np.ndarray) -> Predict:
    """Our ranker, trained and calibrated without the rows that show one of the items `cold_N`."""
    cold = torch.tensor(cold_N)

    def warm(rows_of: _Rows) -> _Rows:
        return lambda block: (rows := rows_of(block))[~cold[block.item_id(rows)]]

    config = ranker_config()
    ranker = fit_ranker(
        new_ranker(log.dataset, config, seed),
        log.dataset,
        rows=warm(training_rows),
        calibration_rows=warm(later_rows),
        num_epochs=config.num_epochs,
        seed=seed,
    )
    columns = [ranker.tasks.index(task) for task in TASKS]

    @torch.no_grad()
    def predict(rows: np.ndarray, frozen: bool) -> np.ndarray:
        parts = []
        for part in np.array_split(rows, len(rows) // 4096 + 1):
            at = torch.tensor(part)
            snapshot, item = log.dataset.snapshot(at), log.dataset.item_id(at)
            encoding = ranker.encode_state(log.state(part, frozen=frozen), snapshot)
            logits = ranker.score(encoding, item[:, None], snapshot[:, None])[:, 0]
            parts.append(logits[:, columns].double().sigmoid().numpy())
        return np.concatenate(parts)

    return predict
