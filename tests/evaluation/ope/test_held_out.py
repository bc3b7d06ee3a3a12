"""Held-out sessions of a log whose pools were drawn by chance, and what a policy is worth there."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
import torch

from recomind.data import SessionDataset, TableCatalogue
from recomind.evaluation.ope.held_out import (
    PER_DECISION,
    PER_SESSION,
    HeldOut,
    held_out_sessions,
    logs_entry,
)
from recomind.evaluation.ope.logs import Settings
from recomind.streams import make_generator
from recomind.types import Candidates, Decision

NUM_ITEMS, POOL, STEPS = 6, 3, 2
WORTH = torch.tensor([0.1, 0.9, 0.3, 0.5, 0.7, 0.2])  # chance of a click on each item
BEST_OF_POOL = (
    sum(float(WORTH[list(pool)].max()) for pool in itertools.combinations(range(NUM_ITEMS), POOL))
    / 20
)


class ChancePools:
    def candidates(self, state, streams):
        seeds = [make_generator(int(seed) % 2**31) for seed in streams.seeds]
        ids = torch.stack([torch.randperm(NUM_ITEMS, generator=g)[:POOL] for g in seeds])
        return Candidates(
            item_id=ids,
            mask=torch.ones_like(ids).bool(),
            log_propensity=torch.zeros(ids.shape),
            batch_size=[len(ids)],
        )


class Greedy:
    def __init__(self, sign):
        self.sign = sign

    def act(self, state, candidates, uniforms):
        slot = (self.sign * WORTH[candidates.item_id]).argmax(1)
        item = candidates.item_id.gather(1, slot[:, None])[:, 0]
        zero = torch.zeros(len(slot))
        return Decision(slot=slot, item_id=item, log_propensity=zero, batch_size=[len(slot)])


def logged(num, unknown=(), *, shows_worth=False, split=False) -> SessionDataset:
    """Two steps a session, each by a softmax of worth over a pool of chance.

    `shows_worth`: as a feature of the item; `split`: into training, later and test days.
    """
    generator, num_rows = make_generator(1), num * STEPS
    order = torch.rand(num_rows, NUM_ITEMS, generator=generator).argsort(1)[:, :POOL]
    prob = (2 * WORTH[order]).softmax(1)
    chosen = torch.multinomial(prob, 1, generator=generator)
    items = order.gather(1, chosen)[:, 0]
    pscore = prob.gather(1, chosen)[:, 0].double()
    pscore[list(unknown)] = torch.nan
    clicks = torch.rand(num_rows, generator=generator) < WORTH[items]
    row = np.arange(num_rows)
    frame = pl.DataFrame(
        {
            "history_id": row // STEPS,
            "session_id": row // STEPS,
            "position": row % STEPS,
            "user_id": row // STEPS,
            "time_ms": row % STEPS * 1000,
            "item_id": items.numpy(),
            "propensity": pscore.numpy(),
            "click": clicks.numpy(),
        }
    ).with_columns(
        dwell_s=1.0,
        left=False,
        left_known=True,
        holdout=False,
        split=_splits(num) if split else pl.lit("test"),
        snapshot=0,
        round_index=0,
    )
    catalogue = TableCatalogue(
        WORTH[None, :, None] if shows_worth else torch.zeros(1, NUM_ITEMS, 0),
        torch.zeros(NUM_ITEMS, 0).long(),
        dense_names=("worth",) if shows_worth else (),
        categorical_names=(),
        vocab_sizes=(),
    )
    return SessionDataset(
        frame, catalogue, tasks=["click"], user_feature_names=[], history_length=1
    )


def _splits(num) -> pl.Expr:
    share = pl.col("session_id") / num
    later = pl.when(share < 0.7).then(pl.lit("calibration")).otherwise(pl.lit("test"))
    return pl.when(share < 0.5).then(pl.lit("train")).otherwise(later)


def held_out_of(dataset, num, horizon=STEPS, seed=0) -> HeldOut:
    found = held_out_sessions(dataset, num, horizon, make_generator(seed))
    assert found is not None
    return found


def entry_of(log, settings=None):
    return logs_entry(
        log,
        held_out_of(log, 5000, seed=2),
        {"policy": Greedy(1), "ranker": Greedy(-1)},
        ChancePools(),
        {"click": 1.0},
        pair=("policy", "ranker"),
        settings=settings or Settings(),
        generator=make_generator(3),
    )


def test_pools_drawn_around_what_was_shown_give_the_true_worth():
    entry = entry_of(logged(5000))
    assert entry["ope"]["policy"][PER_DECISION]["overlap"]["support"] > 0.97
    for metric, truth in ((PER_DECISION, BEST_OF_POOL), (PER_SESSION, STEPS * BEST_OF_POOL)):
        found = entry["arms"]["policy"][metric]
        assert abs(found["mean"] - truth) < 4 * found["standard_error"]
        assert found["standard_error"] < 0.05
        assert entry["lift"][metric]["low"] > 0.5
    assert entry["lift"][PER_DECISION]["n"] == 10_000


def test_too_few_sessions_are_refused_in_the_entry():
    entry = entry_of(logged(20))
    assert entry["arms"]["policy"][PER_SESSION]["mean"] is None
    assert entry["lift"][PER_SESSION]["reason"] == "the logs say too little of one of the arms"


def test_sessions_with_an_unknown_propensity_are_left_out():
    log = logged(4, unknown=[3])
    assert held_out_of(log, 9).row.tolist() == [[0, 1], [4, 5], [6, 7]]
    assert held_out_of(log, 9, horizon=1).row.tolist() == [[0], [2], [4], [6]]
    assert held_out_sessions(logged(2, unknown=[1]), 9, STEPS, make_generator(0)) is None


@pytest.mark.parametrize("num", [2, 3])
def test_as_many_sessions_as_are_asked_for(num):
    assert len(held_out_of(logged(9), num).mask) == num
