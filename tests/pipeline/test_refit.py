"""A later round's ranker: fitted to the logs that suit it best, and never worse than the last."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import polars as pl
import pytest
import torch

from recomind.artifacts import Manifest
from recomind.config import RecomindConfig
from recomind.data import write_sessions
from recomind.pipeline import Round, Run, complete
from recomind.pipeline.loading import load_ensemble
from recomind.pipeline.refit import is_worse, ways_to_refit
from recomind.pipeline.stages.train_ranker import TrainRanker
from recomind.ranker import RefitOn, save_rankers
from recomind.streams import make_generator
from simulators.video_feed.world import TASKS
from tests.simulation import tiny

WORLD = {"_target_": "simulators.video_feed.world.VideoFeed", "num_items": tiny.NUM_ITEMS}


@cache
def fresh_logs():
    """Five hundred sessions, of which more than a hundred are held out."""
    shares = {"test_share": 0.25, "holdout_share": 0.1}
    return tiny.collect(tiny.tiny_world(), 500, generator=make_generator(9), **shares)


def second_round(folder: Path, fresh: pl.DataFrame, **changes) -> Round:
    """A run with a good first ranker, and the logs of its second round."""
    for index, frame in enumerate((tiny.tiny_frame(), fresh)):
        manifest, path = Manifest(kind="sessions"), folder / f"round_{index}" / "sessions"
        write_sessions(path, frame, tiny.tiny_catalogue(), tasks=TASKS, manifest=manifest)
    first = folder / "round_0" / "ranker"
    manifest = Manifest(kind="ranker")
    save_rankers(first, [tiny.tiny_ranker(0)], tiny.tiny_catalogue(), manifest)
    settings = {"num_members": 1, "num_epochs": 1} | changes
    ranker = dataclasses.replace(tiny.RANKER, **settings)
    return Run(RecomindConfig(world=WORLD, output=str(folder), rounds=2, ranker=ranker)).round(1)


def weights(round: Round) -> dict[str, torch.Tensor]:
    (ranker,) = load_ensemble(round)
    assert isinstance(ranker, torch.nn.Module)
    return ranker.state_dict()


def same(one: Round, other: Round) -> bool:
    ours, theirs = weights(one), weights(other)
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def spoiled(frame: pl.DataFrame) -> pl.DataFrame:
    """The logs with the first response turned round, but for the days that judge rankers."""
    turned = pl.when(pl.col("split") == "test").then("watch_10s").otherwise(1 - pl.col("watch_10s"))
    return frame.with_columns(watch_10s=turned.cast(pl.UInt8))


def test_a_refit_that_is_worse_is_not_handed_on(tmp_path, capsys):
    round = second_round(tmp_path, spoiled(fresh_logs()))
    complete(TrainRanker(), round)
    assert "warning: the refit is worse than the last round's ranker" in capsys.readouterr().err
    assert same(round, round.previous)


@pytest.mark.slow
def test_the_best_of_several_ways_is_taken(tmp_path, capsys):
    round = second_round(tmp_path, fresh_logs(), refit_on=RefitOn.auto, num_epochs=2)
    assert TrainRanker().inputs(round) == round.session_folders
    complete(TrainRanker(), round)
    said = capsys.readouterr().err
    _, _, told = said.rpartition("refit on ")
    chosen, _, losses = told.partition(": log-loss ")
    by_way = dict(each.split() for each in losses.split(")")[0].split(", "))
    assert set(by_way) == {"own", "all", "warm"}
    assert chosen == min(by_way, key=by_way.__getitem__)
    assert not same(round, round.previous)


@pytest.mark.parametrize(
    ("how", "names"),
    [(RefitOn.own, ["own"]), (RefitOn.all, ["all"]), (RefitOn.auto, ["own", "all", "warm"])],
)
def test_ways_to_refit(how, names, tmp_path):
    config = RecomindConfig(world=WORLD, output=str(tmp_path))
    config.ranker.refit_on = how
    last = Run(config).round(2)
    ways = ways_to_refit(last)
    assert [way.name for way in ways] == names
    assert all(len(way.folders) == (2 if way.name == "own" else 3) for way in ways)
    assert [way.name for way in ways_to_refit(last.first)] == ["all"]


def test_worse_is_what_is_shown_to_be_worse():
    noise = torch.randn(400, generator=make_generator(1))
    assert is_worse(noise + 0.3, noise)
    assert not is_worse(noise, noise + 0.3)
    assert not is_worse(noise, noise.flip(0))
    assert not is_worse(noise[:50] + 0.3, noise[:50])  # too few to say
