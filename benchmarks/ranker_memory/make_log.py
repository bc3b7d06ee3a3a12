"""Makes a log of the embedded world, part by part, so that no part but the present one is held.

Usage: make_log.py FOLDER NUM_IMPRESSIONS [FIRST_SESSION]; logs of other first sessions are others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import torch

from recomind.artifacts import Manifest, is_complete, write_artifact
from recomind.candidates import CandidatePool, CandidatesConfig
from recomind.data import materialise
from recomind.data.sessions import EVENTS, KIND, ROW_GROUP_EVENTS, checked_events
from recomind.simulation import collect_sessions
from recomind.streams import make_generator
from simulators.video_feed.world import TASKS, VideoFeed

SESSIONS_PER_PART = 20_000  # about 400,000 events
CALIBRATION_SHARE = 0.02  # of each part's sessions, its last ones


def parts(world: VideoFeed, num_impressions: int, first_session: int) -> Iterator[pl.DataFrame]:
    """Frames of whole sessions until their impressions are `num_impressions`, or a few fewer."""
    config = CandidatesConfig(num_candidates=20, num_nearest=0, num_fresh=0)
    pool, left = CandidatePool(config, world.catalogue.num_items), num_impressions
    while left > 0:
        frame = collect_sessions(
            world,
            world.logging_policy(),
            pool,
            num_sessions=min(SESSIONS_PER_PART, 100 + left // 5),  # of about 9 impressions each
            generator=make_generator(first_session),
            user_feature_names=world.user_feature_names,
            calibration_share=CALIBRATION_SHARE,
            test_share=0.0,
            holdout_share=0.0,
        )
        impressions = (frame["position"] >= 0).cum_sum()
        ends = frame.with_columns(until=impressions).group_by("session_id").agg(pl.max("until"))
        kept = ends.filter(pl.col("until") <= left)
        frame = frame.filter(pl.col("session_id").is_in(kept["session_id"].implode()))
        left = left - int((frame["position"] >= 0).sum()) if len(kept) == len(ends) else 0
        ids = [pl.col(name) + first_session for name in ("history_id", "session_id")]
        first_session += SESSIONS_PER_PART
        yield frame.with_columns(*ids)


def make_log(folder: Path, num_impressions: int, first_session: int = 0) -> None:
    """Write a sessions artifact of `num_impressions` impressions, or of a few fewer."""
    world = VideoFeed()
    catalogue = materialise(world.catalogue, world.catalogue.num_items)
    manifest = Manifest(kind=KIND, config={"num_impressions": num_impressions})
    num_events = num_sessions = 0
    with write_artifact(folder, manifest) as staging:
        catalogue.save(staging)
        writer: pq.ParquetWriter | None = None
        for part in parts(world, num_impressions, first_session):
            table = checked_events(part, catalogue, tasks=TASKS).to_arrow()
            writer = writer or pq.ParquetWriter(staging / EVENTS, table.schema, compression="zstd")
            writer.write_table(table, row_group_size=ROW_GROUP_EVENTS)
            num_events += part.height
            num_sessions += part["session_id"].n_unique()
        if writer is not None:
            writer.close()
        manifest.extra = {
            "tasks": list(TASKS),
            "user_feature_names": list(world.user_feature_names),
            "num_events": num_events,
            "num_sessions": num_sessions,
            "num_users": num_sessions,
            "num_items": catalogue.num_items,
        }


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(sys.argv[1])
    if not is_complete(target):
        make_log(target, int(sys.argv[2]), int((sys.argv[3:] or [0])[0]))
