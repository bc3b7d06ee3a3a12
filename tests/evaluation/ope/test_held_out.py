"""Held-out sessions of a log whose pools were drawn by chance, and what a policy is worth there."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch

from recomind.evaluation.ope.held_out import (
    PER_DECISION,
    PER_SESSION,
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


class Log:
    """Two steps a session, each by a softmax of worth over a pool of chance."""

    tasks = ("click",)

    def __init__(self, num, unknown=()):
        generator, num_rows = make_generator(1), num * STEPS
        order = torch.rand(num_rows, NUM_ITEMS, generator=generator).argsort(1)[:, :POOL]
        prob = (2 * WORTH[order]).softmax(1)
        chosen = torch.multinomial(prob, 1, generator=generator)
        self.items = order.gather(1, chosen)[:, 0]
        self.pscore = prob.gather(1, chosen)[:, 0].double()
        self.pscore[list(unknown)] = torch.nan
        self.clicks = torch.rand(num_rows, generator=generator) < WORTH[self.items]

    def rows(self, split):
        return torch.arange(len(self.items))

    def position(self, rows):
        return rows % STEPS

    def session_index(self, rows):
        return rows // STEPS

    user_id = session_index

    def propensity(self, rows):
        return self.pscore[rows]

    def item_id(self, rows):
        return self.items[rows]

    def labels(self, rows):
        return self.clicks[rows, None].float()

    def state(self, rows):
        return SimpleNamespace(step=rows % STEPS)


def entry_of(log, settings=None):
    held_out = held_out_sessions(log, 5000, STEPS, make_generator(2))
    return logs_entry(
        log,
        held_out,
        {"policy": Greedy(1), "ranker": Greedy(-1)},
        ChancePools(),
        {"click": 1.0},
        pair=("policy", "ranker"),
        settings=settings or Settings(),
        generator=make_generator(3),
    )


def test_pools_drawn_around_what_was_shown_give_the_true_worth():
    entry = entry_of(Log(5000))
    assert entry["ope"]["policy"][PER_DECISION]["overlap"]["support"] > 0.97
    for metric, truth in ((PER_DECISION, BEST_OF_POOL), (PER_SESSION, STEPS * BEST_OF_POOL)):
        found = entry["arms"]["policy"][metric]
        assert abs(found["mean"] - truth) < 4 * found["standard_error"]
        assert found["standard_error"] < 0.05
        assert entry["lift"][metric]["low"] > 0.5
    assert entry["lift"][PER_DECISION]["n"] == 10_000


def test_too_few_sessions_are_refused_in_the_entry():
    entry = entry_of(Log(20))
    assert entry["arms"]["policy"][PER_SESSION]["mean"] is None
    assert entry["lift"][PER_SESSION]["reason"] == "the logs say too little of one of the arms"


def test_sessions_with_an_unknown_propensity_are_left_out():
    log = Log(4, unknown=[3])
    held_out = held_out_sessions(log, 9, STEPS, make_generator(0))
    assert held_out.row.tolist() == [[0, 1], [4, 5], [6, 7]]
    assert held_out_sessions(log, 9, 1, make_generator(0)).row.tolist() == [[0], [2], [4], [6]]
    assert held_out_sessions(Log(2, unknown=[1]), 9, STEPS, make_generator(0)) is None


@pytest.mark.parametrize("num", [2, 3])
def test_as_many_sessions_as_are_asked_for(num):
    assert len(held_out_sessions(Log(9), num, STEPS, make_generator(0)).mask) == num
