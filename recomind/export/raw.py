"""How a company's own ids and features become the numbers that the network was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from recomind.artifacts import read_manifest
from recomind.data import IdMap
from recomind.data.scaling import LIMIT

_ITEM_IDS, _SCALING = "item_ids.parquet", "user_scaling"
SERVED_SCALING = "user_feature_scaling"  # in the manifest of a scorer


@dataclass(kw_only=True, slots=True)
class RawInputs:
    """Ids and scaling of one catalogue and one set of user features.

    A feature becomes `clip((raw - mean) / std, -limit, limit)`.
    """

    item_ids: Sequence[str | int] = ()  # [N], the id of each row; empty where ids are the rows
    scaling: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # name -> mean, std

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
        return {SERVED_SCALING: known} if known else {}

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
    scaling = read_manifest(sessions, verify=False).extra.get(_SCALING, {})
    if not (sessions / _ITEM_IDS).is_file():
        return RawInputs(scaling=scaling)
    table = IdMap.load(sessions / _ITEM_IDS).table.sort("row")
    return RawInputs(item_ids=table["id"].to_list(), scaling=scaling)
