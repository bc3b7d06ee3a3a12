"""Standardisation by the training rows, kept so that serving can repeat it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recomind.artifacts import read_manifest
from recomind.errors import ArtifactError, SchemaError, did_you_mean

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


class FeatureScaling:
    """The standardisation of a sessions artifact's user features, for raw values of a request.

    Args:
        scalings: name -> scaling, in the order of the features.

    >>> scaling = FeatureScaling({"age": Scaling(mean=40.0, std=10.0)})
    >>> scaling.apply({"age": 55.0}).tolist()
    [1.5]
    """

    def __init__(self, scalings: Mapping[str, Scaling]) -> None:
        self.scalings = dict(scalings)

    @classmethod
    def load(cls, folder: Path) -> FeatureScaling:
        """Read it from the manifest of a sessions artifact.

        Raises:
            ArtifactError: absent or damaged, or sessions that keep no scaling, as a world's.
        """
        extra = read_manifest(Path(folder), "sessions", verify=False).extra
        kept = extra.get("user_scaling")
        if kept is None:
            raise ArtifactError(
                "sessions without a scaling of user features",
                got=folder,
                expected="sessions that prepare-data wrote",
            )
        return cls({name: Scaling(**kept[name]) for name in extra["user_feature_names"]})

    def apply(self, raw: Mapping[str, float]) -> np.ndarray:
        """[U] float32: raw values by name, standardised; a feature that is not given is its mean.

        Raises:
            SchemaError: a name that is no feature, or a value that is not finite.
        """
        for name, value in raw.items():
            if name not in self.scalings:
                raise SchemaError(
                    "an unknown user feature", got=name, mend=did_you_mean(name, self.scalings)
                )
            if not math.isfinite(value):
                raise SchemaError(f"user feature {name!r} is not finite", got=value)
        values = [
            scaling.apply(np.array(raw.get(name, scaling.mean)))
            for name, scaling in self.scalings.items()
        ]
        return np.array(values, dtype=np.float32)
