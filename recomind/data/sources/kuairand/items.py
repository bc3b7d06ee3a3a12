"""The catalogue of KuaiRand-Pure: one snapshot a day, holding earlier days only.

Symbols: `D` days of the log, `N` videos, `F` dense features, `E` events.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl
import torch

from recomind.data.catalogue import TableCatalogue
from recomind.data.scaling import Scaling
from recomind.data.sources.kuairand.history import Prior
from recomind.data.sources.kuairand.rates import Groups, item_statistics
from recomind.streams import hash_int64

VIDEO_TYPES = ("NORMAL", "AD")  # 0 is for any other
_AUTHOR_SALT = 7


def dated_features(
    events: pl.DataFrame, videos: pl.DataFrame, groups: Groups, prior: Prior, smoothing: float
) -> dict[str, np.ndarray]:
    """Name -> [D, N]: dense features, not yet standardised; day `d` knows days before `d`.

    Args:
        events: with `local_day`, `day` from 0, and what `item_statistics` needs.
        videos: the video table.
        groups: its authors and tags.
        prior: what was known before day 0.
        smoothing: pseudo-events of each rate.
    """
    days = events["local_day"].to_numpy()
    num_days = int(days.max() - days.min()) + 1
    dense = _content(videos, int(days.min()), num_days)
    return dense | item_statistics(events, prior, groups, num_days, smoothing)


def kuairand_catalogue(
    dense: dict[str, np.ndarray],
    events: pl.DataFrame,
    videos: pl.DataFrame,
    groups: Groups,
    buckets: int,
) -> tuple[TableCatalogue, dict[str, Any]]:
    """The catalogue, and its scalings and vocabularies for the manifest.

    Args:
        dense: from `dated_features`.
        events: the training events, whose items the features are standardised by.
        videos: the video table.
        groups: its authors and tags.
        buckets: how many ids authors are hashed into.
    """
    at = events.select("day", "item_id").to_numpy()
    scalings = {name: Scaling.of(value_DN[at[:, 0], at[:, 1]]) for name, value_DN in dense.items()}
    dense_DNF = np.stack([scalings[name].apply(value) for name, value in dense.items()], axis=-1)
    categorical, sizes, vocabularies = _categorical(videos, groups, buckets)
    catalogue = TableCatalogue(
        torch.from_numpy(dense_DNF),
        torch.from_numpy(np.stack(list(categorical.values()), axis=-1)),
        dense_names=list(dense),
        categorical_names=list(categorical),
        vocab_sizes=sizes,
    )
    kept = {name: asdict(scaling) for name, scaling in scalings.items()}
    return catalogue, {"item_scaling": kept, "vocabularies": vocabularies}


def _content(videos: pl.DataFrame, first_day: int, num_days: int) -> dict[str, np.ndarray]:
    """Name -> [D, N]: shape, length (the median where missing) and age on each day."""
    length_ms = videos["video_duration"]
    median = float(length_ms.median() or 0.0)  # pyright: ignore[reportArgumentType]
    log_length = (length_ms.fill_null(median) / 1000).log1p().to_numpy()
    uploaded = videos["upload_dt"].cast(pl.Int32).to_numpy()  # days since 1970
    age_DN = np.maximum(first_day + np.arange(num_days)[:, None] - uploaded, 0)
    shape = (num_days, videos.height)
    missing = length_ms.is_null().to_numpy().astype(np.float64)
    aspect = videos.select((pl.col("server_height") / pl.col("server_width")).log()).to_series()
    return {
        "log_aspect": np.broadcast_to(aspect.to_numpy(), shape),
        "log_duration_s": np.broadcast_to(log_length, shape),
        "duration_missing": np.broadcast_to(missing, shape),
        "log_age_days": np.log1p(age_DN),
    }


def _categorical(
    videos: pl.DataFrame, groups: Groups, buckets: int
) -> tuple[dict[str, np.ndarray], list[int], dict[str, list[str]]]:
    """Name -> [N] int64, vocabulary sizes, and the words of ids 1, 2, ...; 0 is unknown."""
    author = torch.from_numpy(videos["author_id"].to_numpy().copy())
    bucket = (torch.remainder(hash_int64(author, _AUTHOR_SALT), buckets) + 1).numpy()
    music = videos["music_type"].cast(pl.Int64).cast(pl.String)
    vocabularies = {
        "tag": groups.tags,
        "video_type": list(VIDEO_TYPES),
        "music_type": sorted(set(music.drop_nulls().to_list()), key=int),
    }
    columns = {
        "author": bucket,
        "tag": groups.tag_N,
        "video_type": _codes(videos["video_type"], vocabularies["video_type"]),
        "music_type": _codes(music, vocabularies["music_type"]),
    }
    sizes = [buckets + 1] + [len(words) + 1 for words in vocabularies.values()]
    return columns, sizes, vocabularies


def _codes(values: pl.Series, words: list[str]) -> np.ndarray:
    """[N] int64: 1 + the place in `words`; 0 where it is none of them or missing."""
    places = {word: code for code, word in enumerate(words, start=1)}
    return np.array([places.get(value, 0) for value in values.to_list()], dtype=np.int64)
