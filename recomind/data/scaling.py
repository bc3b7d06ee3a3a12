"""Standardisation by the training rows, kept so that serving can repeat it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    def of_counts(cls, values: np.ndarray, num: np.ndarray) -> Scaling:
        """The scaling of `values` [...], each repeated `num` [...] times."""
        mean = float((values * num).sum() / num.sum())
        std = math.sqrt(float((np.square(values - mean) * num).sum() / num.sum()))
        return cls(mean=mean, std=std if std > 1e-9 else 1.0)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """`values` [...] standardised, clipped to `LIMIT`, float32."""
        scaled = (values - self.mean) / self.std
        return np.clip(scaled, -LIMIT, LIMIT).astype(np.float32)

    def expression(self, name: str) -> pl.Expr:
        """A column of float64, as `apply` makes it."""
        scaled = (pl.col(name) - self.mean) / self.std
        return scaled.clip(-LIMIT, LIMIT).cast(pl.Float32)


@dataclass(kw_only=True, slots=True)
class Moments:
    """Mean and spread of `U` features over some rows; in pieces, they are those of the whole.

    Pieces are merged one after another (Chan, Golub and LeVeque 1979): the same pieces in the same
    order give the same bits.
    """

    num: int
    mean_U: np.ndarray  # float64
    spread_U: np.ndarray  # float64, sum of squared distances from the mean

    @classmethod
    def of(cls, features_EU: np.ndarray) -> Moments:
        """Moments of rows [E, U]."""
        mean_U = features_EU.mean(axis=0)
        return cls(
            num=len(features_EU),
            mean_U=mean_U,
            spread_U=np.square(features_EU - mean_U).sum(axis=0),
        )

    def plus(self, other: Moments) -> Moments:
        """Moments of the rows of both."""
        num = self.num + other.num
        apart_U = other.mean_U - self.mean_U
        return Moments(
            num=num,
            mean_U=self.mean_U + apart_U * (other.num / num),
            spread_U=self.spread_U
            + other.spread_U
            + np.square(apart_U) * (self.num * other.num / num),
        )

    def scalings(self, names: Sequence[str]) -> dict[str, Scaling]:
        """The scaling of each feature."""
        std_U = np.sqrt(self.spread_U / max(self.num, 1))
        return {
            name: Scaling(mean=float(mean), std=float(std) if std > 1e-9 else 1.0)
            for name, mean, std in zip(names, self.mean_U, std_U, strict=True)
        }


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
