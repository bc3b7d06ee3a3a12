"""Logged transitions: returns, ends, states after, and pools around what was shown."""

from __future__ import annotations

import polars as pl
import pytest
import torch

from recomind.candidates.around import around
from recomind.data import SessionDataset
from recomind.errors import ConfigError
from recomind.streams import make_generator
from recomind.training.offline.columns import from_columns, to_columns
from recomind.training.offline.logs import LoggedTransitions, TrainingLogs
from recomind.types import Candidates
from tests.training.offline.trapped import logs, no_items
from tests.training.trap import TrapPool

GAMMA = 0.5


def three_sessions(weights=None, **changes) -> TrainingLogs:
    """Rows 0-2: the user leaves; rows 3-4: cut; row 5: one event, the user leaves."""
    columns = {
        "history_id": [0, 0, 0, 1, 1, 2],
        "session_id": [0, 0, 0, 1, 1, 2],
        "position": [0, 1, 2, 0, 1, 0],
        "user_id": [0, 0, 0, 1, 1, 2],
        "time_ms": [0, 1000, 3000, 0, 4000, 0],
        "item_id": [0, 1, 2, 3, 4, 5],
        "click": [True, False, True, True, True, False],
        "left": [False, False, True, False, False, True],
        "left_known": [True, True, True, True, False, True],
        "u_mood": [2.0, 1.0, 0.0, 7.0, 8.0, 9.0],
    }
    constant = {
        "dwell_s": pl.lit(0.25),
        "propensity": pl.lit(float("nan")),
        "holdout": pl.lit(False),
        "split": pl.lit("train"),
        "snapshot": pl.lit(0),
        "round_index": pl.lit(0),
    }
    frame = pl.DataFrame(columns).with_columns(**constant | changes)
    dataset = SessionDataset(
        frame, no_items(), tasks=["click"], user_feature_names=["mood"], history_length=2
    )
    return TrainingLogs(dataset=dataset, reward_weights=weights or {"click": 1.0})


def gathered(n_step: int):
    source = LoggedTransitions(three_sessions(), TrapPool(), n_step=n_step, gamma=GAMMA)
    return source.gather(torch.arange(6), make_generator(0)).transition


def test_one_step_ends_only_where_a_user_is_known_to_have_left():
    found = gathered(1)
    assert found.reward.tolist() == [1, 0, 1, 1, 1, 0]
    assert found.discount.tolist() == [0.5, 0.5, 0.0, 0.5, 0.5, 0.0]
    assert found.item_id.tolist() == [0, 1, 2, 3, 4, 5]


def test_several_steps_stay_inside_the_session():
    found = gathered(3)
    assert found.reward.tolist() == [1.25, 0.5, 1.0, 1.5, 1.0, 0.0]
    assert found.discount.tolist() == [0.0, 0.0, 0.0, 0.25, 0.5, 0.0]
    assert gathered(2).discount.tolist() == [0.25, 0.0, 0.0, 0.25, 0.5, 0.0]


def test_the_state_after_is_the_next_decision_s_where_there_is_one():
    found = gathered(1).next_state
    # Inside a session the features and the gap of the next event; at its end those of the event.
    assert found.user_features[:, 0].tolist() == [1.0, 0.0, 0.0, 8.0, 8.0, 9.0]
    assert found.gap_s.tolist() == [1.0, 2.0, 0.25, 4.0, 0.25, 0.25]
    assert found.step.tolist() == [1, 2, 3, 1, 2, 1]
    assert found.history_item_id[1].tolist() == [0, 1]
    assert found.history_mask[5].tolist() == [False, True]


def test_the_shown_item_stands_in_slot_0_of_its_pool():
    pool = Candidates(
        item_id=torch.tensor([[3, 4, 5], [3, 4, 5], [3, 4, 0]]),
        mask=torch.tensor([[True, True, True], [True, True, True], [False, True, False]]),
        log_propensity=torch.zeros(3, 3),
        batch_size=[3],
    )
    shown = torch.tensor([5, 9, 4])
    found = around(pool, shown)
    assert found.item_id.tolist() == [[5, 4, 3], [9, 4, 5], [4, 3, 0]]
    alone = [around(pool[row : row + 1], shown[row : row + 1]).item_id[0] for row in range(3)]
    assert torch.equal(torch.stack(alone), found.item_id)
    # What was padding stays padding wherever it moves.
    assert found.mask.tolist() == [[True, True, True], [True, True, True], [True, False, False]]


def test_columns_and_back():
    batch = LoggedTransitions(logs(), TrapPool(), n_step=2, gamma=GAMMA).sample(
        8, make_generator(1)
    )
    columns = to_columns(batch, numpy=False)["default_policy"]
    again = from_columns(columns)
    assert torch.equal(again.candidates.item_id, batch.candidates.item_id)
    assert torch.equal(again.transition.reward, batch.transition.reward)
    state = (again.transition.next_state, batch.transition.next_state)
    assert torch.equal(state[0].history_item_id, state[1].history_item_id)


@pytest.mark.parametrize(
    ("changes", "weights", "message"),
    [
        ({"split": pl.lit("test")}, {"click": 1.0}, "too few logged events to learn from"),
        ({"holdout": pl.lit(True)}, {"click": 1.0}, "too few logged events to learn from"),
        ({}, {"buy": 1.0}, "weight for an unknown task"),
    ],
    ids=["no training days", "only hold-out users", "another reward"],
)
def test_logs_that_teach_nothing_are_refused(changes, weights, message):
    logged = three_sessions(weights, **changes)
    with pytest.raises(ConfigError, match=message):
        LoggedTransitions(logged, TrapPool(), n_step=1, gamma=GAMMA)
