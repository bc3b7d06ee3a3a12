"""The embedded feed, its items kept in a catalogue store."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl
import torch

from recomind.data import CatalogueStore, StoreFormat, add_items, create_catalogue_store
from recomind.types import Catalogue
from simulators.video_feed.world import VideoFeed


class StoredFeed(VideoFeed):
    """A `VideoFeed` whose catalogue is the store in `store`, which is made where there is none."""

    def __init__(
        self,
        *,
        store: str,
        num_items: int,
        horizon: int,
        history_length: int,
        preset_name: str = "fatigue",
        reward_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(
            preset_name=preset_name,
            num_items=num_items,
            horizon=horizon,
            history_length=history_length,
            reward_weights=reward_weights,
        )
        if not Path(store).exists():
            fill(Path(store), self.catalogue)
        self.catalogue = CatalogueStore(Path(store))


def fill(folder: Path, catalogue: Catalogue) -> None:
    """Write all items of a catalogue into a new store."""
    names = [list(catalogue.dense_names), list(catalogue.categorical_names)]
    form = StoreFormat(
        dense_names=names[0], categorical_names=names[1], vocab_sizes=list(catalogue.vocab_sizes)
    )
    create_catalogue_store(folder, form)
    ids = torch.arange(catalogue.num_items)
    items = catalogue.features(ids)
    parts = [
        pl.DataFrame({"item_id": ids.numpy()}),
        pl.DataFrame(items.dense.numpy(), schema=names[0]),
        pl.DataFrame(items.categorical.numpy(), schema=names[1]),
    ]
    pl.concat(parts, how="horizontal").write_parquet(folder.with_suffix(".parquet"))
    add_items(folder, folder.with_suffix(".parquet"))
