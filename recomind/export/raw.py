"""How a company's own ids and features become the numbers that the network was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from recomind.artifacts import read_manifest
from recomind.data import IdMap
from recomind.data.encoding import FeatureEncoding
from recomind.data.scaling import LIMIT

_ITEM_IDS, _SCALING, _ENCODING = "item_ids.parquet", "user_scaling", "user_encoding"
SERVED_SCALING, SERVED_ENCODING = "user_feature_scaling", "user_feature_encoding"  # in scorers


@dataclass(kw_only=True, slots=True)
class RawInputs:
    """Ids of one catalogue, and encoding and scaling of one set of user features.

    Raw columns become features by `encoding`, and a feature becomes
    `clip((raw - mean) / std, -limit, limit)`.
    """

    item_ids: Sequence[str | int] = ()  # [N], the id of each row; empty where ids are the rows
    scaling: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # name -> mean, std
    encoding: FeatureEncoding = field(default_factory=FeatureEncoding)

    def ids(self, num_items: int) -> list[str | int]:
        """The id of each of the `num_items` rows."""
        return list(self.item_ids) if self.item_ids else list(range(num_items))

    def scaling_of(self, feature: str) -> Mapping[str, float]:
        """Mean and standard deviation of a feature; 0 and 1 where it is not scaled."""
        return self.scaling.get(feature, {"mean": 0.0, "std": 1.0})

    def save(self, staging: Path) -> dict[str, Any]:
        """Write the map of ids where there is one; returns what the manifest says beside it."""
        if self.item_ids:
            IdMap(pl.Series("id", list(map(str, self.item_ids)))).table.write_parquet(
                staging / _ITEM_IDS
            )
        known = {name: dict(scaling) for name, scaling in self.scaling.items()}
        told = {SERVED_SCALING: known} if known else {}
        if self.encoding != FeatureEncoding():
            told[SERVED_ENCODING] = self.encoding.to_json()
        return told

    @property
    def limit(self) -> float | None:
        """Standard deviations that a feature is clipped to; None where nothing is scaled."""
        scaled = any(s["mean"] != 0.0 or s["std"] != 1.0 for s in self.scaling.values())
        return LIMIT if scaled else None


def read_raw_inputs(sessions: Path) -> RawInputs:
    """What a sessions artifact keeps of the raw logs; nothing for sessions of a world.

    Raises:
        ArtifactError: unreadable.
    """
    extra = read_manifest(sessions, verify=False).extra
    raw = RawInputs(scaling=extra.get(_SCALING, {}))
    if kept := extra.get(_ENCODING):
        raw = replace(raw, encoding=FeatureEncoding.from_json(kept))
    if not (sessions / _ITEM_IDS).is_file():
        return raw
    table = IdMap.load(sessions / _ITEM_IDS).table.sort("row")
    return replace(raw, item_ids=table["id"].to_list())
