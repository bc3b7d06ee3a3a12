"""A company's own ids and raw features, where the scorer's artifact says how they translate.

    item_ids.parquet   id (text), row (int64): a company's items and the catalogue's rows
    user_ids.parquet   likewise its users; others are hashed: nothing is learned of a user's id
    manifest.json      extra.user_feature_scaling: name -> {mean, std}, of the raw features
                       extra.user_feature_encoding: columns of the log that became features

Without them a request names rows, and its features are standardised already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recomind.artifacts import reading
from recomind.data.encoding import FeatureEncoding
from recomind.data.parquet import read_checked
from recomind.data.scaling import Scaling
from recomind.errors import ArtifactError
from recomind.export.raw import SERVED_ENCODING, SERVED_SCALING
from recomind.serving.id_table import IdTable

ITEM_IDS, USER_IDS = "item_ids.parquet", "user_ids.parquet"


@dataclass(kw_only=True, slots=True)
class CompanyNames:
    """What translates requests and answers; empty where the artifact says nothing."""

    items: IdTable | None = None
    users: IdTable | None = None
    scaling: Mapping[str, Scaling] = field(default_factory=dict)  # by name of a user feature
    encoding: FeatureEncoding = field(default_factory=FeatureEncoding)  # raw columns to features

    @classmethod
    def load(cls, folder: Path, extra: Mapping[str, Any]) -> CompanyNames:
        """Read what there is in a scorer's folder, whose hashes are checked.

        Raises:
            ArtifactError: a file or a scaling is not what it must be.
        """
        items, users = _ids(Path(folder) / ITEM_IDS), _ids(Path(folder) / USER_IDS)
        try:
            scaling = {n: Scaling(**each) for n, each in extra.get(SERVED_SCALING, {}).items()}
            if all((each.mean, each.std) == (0.0, 1.0) for each in scaling.values()):
                scaling = {}  # data.standardise=false: neither scaled nor clipped
        except (TypeError, AttributeError) as error:
            raise ArtifactError(f"manifest.extra.{SERVED_SCALING}", got=str(error)) from error
        encoding = FeatureEncoding()
        if kept := extra.get(SERVED_ENCODING):
            encoding = FeatureEncoding.from_json(kept)
        return cls(
            items=items,
            users=users,
            scaling=scaling,
            encoding=encoding,
        )

    def user_row(self, id_: str) -> int:
        """The row of a user; of one who is not known, 63 bits of the id's BLAKE2 hash."""
        row = None if self.users is None else self.users.get(id_)
        if row is not None:
            return row
        digest = hashlib.blake2b(id_.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1

    def item_names(self, rows: list[int]) -> list[int] | list[str]:
        """What the company calls these items."""
        return rows if self.items is None else [self.items.id_of(row) for row in rows]

    def standardised(self, name: str, value: float) -> float:
        """A raw feature as the policy knows it."""
        scaling = self.scaling.get(name)
        return value if scaling is None else float(scaling.apply(np.array([value]))[0])


def _ids(path: Path) -> IdTable | None:
    if not path.is_file():
        return None
    with reading("map of ids", path):
        table = read_checked(path, "map of ids", ["id", "row"])
        ids, rows = table["id"].cast(pl.String), table["row"].cast(pl.Int64)
    if any(each.has_nulls() or each.n_unique() < len(each) for each in (ids, rows)):
        raise ArtifactError("a map of ids names an id or a row twice, or none", got=path)
    return IdTable(ids, rows.to_numpy())
