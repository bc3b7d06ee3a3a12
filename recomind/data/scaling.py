"""Standardisation by the training rows, kept so that serving can repeat it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

LIMIT = 8.0  # standard deviations; a rare one-hot or count must not dominate a network's input


@dataclass(kw_only=True, slots=True)
class Scaling:
    """Mean and standard deviation of one feature over the training rows."""

    mean: float
    std: float  # 1.0 where the feature was constant

    @classmethod
    def of(cls, reference: np.ndarray) -> Scaling:
        """The scaling that standardises `reference` [E]."""
        std = float(reference.std())
        return cls(mean=float(reference.mean()), std=std if std > 1e-9 else 1.0)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """`values` [...] standardised, clipped to `LIMIT`, float32."""
        scaled = (values - self.mean) / self.std
        return np.clip(scaled, -LIMIT, LIMIT).astype(np.float32)


def standardised(
    features: pl.DataFrame, train: pl.Series
) -> tuple[pl.DataFrame, dict[str, dict[str, float]]]:
    """Every column standardised by its rows `train` [E] bool; and name -> {mean, std}."""
    mask = train.to_numpy()
    columns, scalings = [], {}
    for name in features.columns:
        values = features[name].to_numpy()
        scaling = Scaling.of(values[mask])
        columns.append(pl.Series(name, scaling.apply(values)))
        scalings[name] = asdict(scaling)
    return pl.DataFrame(columns), scalings
