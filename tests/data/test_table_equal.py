"""What `data=table` reads equals what was there: KuaiRand's files, and a world's own logs."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from recomind.candidates import CandidatesConfig, make_pool
from recomind.data import IdMap, TableCatalogue, make_source
from recomind.data.sessions import checked_events
from recomind.data.sources.kuairand import KuaiRand
from recomind.data.sources.kuairand.files import HISTORY, USERS, VIDEOS
from recomind.simulation import collect_sessions
from recomind.streams import make_generator
from simulators.video_feed.world import VideoFeed
from tests.data.conftest import LOG, small_history
from tests.data.tables import kuairand_settings, world_settings


def sessions(logs):
    return checked_events(logs.events, logs.catalogue, tasks=logs.tasks)


def require_equal_catalogues(ours, theirs):
    assert isinstance(ours, TableCatalogue)
    assert isinstance(theirs, TableCatalogue)
    assert ours.dense_names == theirs.dense_names
    assert ours.categorical_names == theirs.categorical_names
    assert ours.vocab_sizes == theirs.vocab_sizes
    assert torch.equal(ours.dense_DNF, theirs.dense_DNF)
    assert torch.equal(ours.categorical_NC, theirs.categorical_NC)


def renamed(name: str) -> str:
    return f"Col_{name[::-1]}"


def as_a_company_would(root: Path, out: Path, prefix: str) -> dict:
    """KuaiRand's files under other names: columns shuffled, ids as text, a Parquet file a day."""
    log = pl.concat([pl.read_csv(path) for path in sorted(root.glob("log_*.csv"))])
    users = pl.read_csv(root / USERS, infer_schema_length=None)
    videos = pl.read_csv(
        root / VIDEOS, infer_schema_length=None, schema_overrides={"tag": pl.String}
    )
    history = pl.read_parquet(root / HISTORY)
    text = [(prefix + pl.col(n).cast(pl.String)).alias(n) for n in ("user_id", "video_id")]
    tables = {
        "log": log.with_columns(text),
        "users": users.with_columns(text[0]),
        "videos": videos.with_columns(text[1]),
        "history": history.with_columns(text),
    }
    tables = {
        name: table.select(sorted(table.columns, key=lambda c: c[::-1])).rename(renamed)
        for name, table in tables.items()
    }
    day = ((pl.col(renamed("time_ms")) + 28_800_000) // 86_400_000).alias("day")
    for (number,), part in tables["log"].group_by(day, maintain_order=True):
        folder = out / "log" / f"day={number}"
        folder.mkdir(parents=True)
        part.write_parquet(folder / "part-0.parquet")
    for name in ("users", "videos", "history"):
        tables[name].write_parquet(out / f"{name}.parquet")
    return kuairand_settings(
        log=str(out / "log" / "day=*" / "*.parquet"),
        users=str(out / "users.parquet"),
        videos=str(out / "videos.parquet"),
        history=str(out / "history.parquet"),
        n=renamed,
    )


@pytest.mark.parametrize("prefix", ["", "u"])
def test_renamed_and_shuffled_files_read_as_the_official_ones(official, tmp_path, prefix):
    root = Path(official())
    small_history().write_parquet(root / HISTORY)
    theirs = KuaiRand(root=str(root)).read()
    source = make_source(as_a_company_would(root, tmp_path / "company", prefix))
    ours = source.read()
    assert_frame_equal(sessions(ours), sessions(theirs), check_exact=True)
    require_equal_catalogues(ours.catalogue, theirs.catalogue)
    ids = IdMap(ours.tables["item_ids.parquet"]["id"])
    assert ids.rows([f"{prefix}7", f"{prefix}19"]).tolist() == [7, 19]


def test_official_files_read_by_columns_alone(official, tmp_path):
    root = Path(official())
    small_history().write_parquet(root / HISTORY)
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress((root / LOG).read_bytes()))
    source = make_source(
        kuairand_settings(
            log=str(tmp_path / "log.csv.gz"),
            users=str(root / USERS),
            videos=str(root / VIDEOS),
            history=str(root / HISTORY),
        )
    )
    ours, theirs = source.read(), KuaiRand(root=str(root)).read()
    assert_frame_equal(sessions(ours), sessions(theirs), check_exact=True)
    require_equal_catalogues(ours.catalogue, theirs.catalogue)


@pytest.mark.slow
def test_kuairand_renamed_and_shuffled(kuairand_root, tmp_path):
    theirs = KuaiRand(root=str(kuairand_root)).read()
    ours = make_source(as_a_company_would(kuairand_root, tmp_path, "id-")).read()
    assert_frame_equal(sessions(ours), sessions(theirs), check_exact=True)
    require_equal_catalogues(ours.catalogue, theirs.catalogue)


def world_logs(num_sessions: int = 60) -> tuple[pl.DataFrame, VideoFeed]:
    world = VideoFeed(num_items=80, horizon=6, history_length=8)
    frame = collect_sessions(
        world,
        world.logging_policy(),
        make_pool(CandidatesConfig(num_candidates=16, num_nearest=0), world.catalogue, None, None),
        num_sessions=num_sessions,
        generator=make_generator(3),
        user_feature_names=world.user_feature_names,
    )
    return frame, world


def as_shop(frame: pl.DataFrame, world: VideoFeed, folder: Path, kind: str) -> dict:
    """The world's logs and catalogue as files of a shop."""
    known = world.catalogue
    items = known.features(torch.arange(known.num_items))
    features = [name[2:] for name in frame.columns if name.startswith("u_")]
    log = frame.select(
        *(pl.col(f"u_{name}").alias(f"f_{name}") for name in features),
        *(pl.col(task).alias(f"did_{task}") for task in world.tasks),
        part="split",
        visit="session_id",
        article="item_id",
        clock="time_ms",
        customer="user_id",
        place="position",
        seconds="dwell_s",
        went="left",
        went_known="left_known",
        p_shown="propensity",
        kept="holdout",
    )
    table = pl.DataFrame(
        {"sku": range(known.num_items)}
        | {f"x_{n}": items.dense[:, i].numpy() for i, n in enumerate(known.dense_names)}
        | {f"c_{n}": items.categorical[:, i].numpy() for i, n in enumerate(known.categorical_names)}
    )
    for name, rows in {"log": log, "items": table}.items():
        getattr(rows, f"write_{kind}")(folder / f"{name}.{kind}")
    return world_settings(
        log=str(folder / f"log.{kind}"),
        items=str(folder / f"items.{kind}"),
        tasks=list(world.tasks),
        features=features,
        dense=list(known.dense_names),
        sizes=dict(
            zip(world.catalogue.categorical_names, world.catalogue.vocab_sizes, strict=True)
        ),
    )


@pytest.mark.parametrize("kind", ["csv", "parquet", "ndjson"])
def test_a_worlds_logs_come_back_as_they_were(tmp_path, kind):
    frame, world = world_logs()
    logs = make_source(as_shop(frame, world, tmp_path, kind)).read()
    assert_frame_equal(
        sessions(logs),
        checked_events(frame, logs.catalogue, tasks=world.tasks),
        check_exact=True,
    )
    everything = torch.arange(world.catalogue.num_items)
    theirs, ours = world.catalogue.features(everything), logs.catalogue.features(everything)
    assert torch.equal(ours.dense, theirs.dense)
    assert torch.equal(ours.categorical, theirs.categorical)
