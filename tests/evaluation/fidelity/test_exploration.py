"""Which rows are chance, and whether the alarm hears a logger that knows more."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from recomind.data.exploring import exploring_rows, unconfounded_rows
from recomind.evaluation.fidelity.absent import is_absent
from recomind.evaluation.fidelity.exploration import confounding_alarm
from recomind.evaluation.fidelity.logger import logger_logits
from recomind.streams import make_generator
from tests.simulation import tiny

TASKS = ("view", "like")


def log(propensity, session=None, round_index=None) -> tuple[Any, torch.Tensor]:
    """What `exploring_rows` reads of a dataset."""
    num = len(propensity)
    columns = {
        "propensity": torch.tensor(propensity, dtype=torch.float64),
        "session_index": torch.tensor(session or [0] * num),
        "round_index": torch.tensor(round_index or [0] * num),
    }
    return SimpleNamespace(**{k: v.__getitem__ for k, v in columns.items()}), torch.arange(num)


def test_equal_small_propensities_are_chance():
    chance, chosen = exploring_rows(*log([0.9, 0.002, 0.002, 0.9]))
    assert chance.tolist() == [False, True, True, False]
    assert chosen.tolist() == [True, False, False, True]


def test_the_best_of_a_random_subset_is_no_chance():
    chance, chosen = exploring_rows(*log([0.9, 0.03, 0.02, 0.008, 0.9]))
    assert not chance.any()
    assert chosen.tolist() == [True, False, False, False, True]


def test_sessions_may_explore_at_different_rates():
    chance, _ = exploring_rows(*log([0.004, 0.004, 0.001, 0.001], session=[0, 0, 1, 1]))
    assert chance.all()


def test_rounds_are_judged_apart():
    dataset, rows = log([0.002, 0.002, 0.03, 0.008], session=[0, 0, 1, 1], round_index=[0, 0, 1, 1])
    chance, _ = exploring_rows(dataset, rows)
    assert chance.tolist() == [True, True, False, False]


def test_unknown_propensities_are_the_loggers_choice_only_beside_random_exposures():
    nan = math.nan
    chance, chosen = exploring_rows(*log([nan, 0.001, 0.001, nan]))
    assert chance.tolist() == [False, True, True, False]
    assert chosen.tolist() == [True, False, False, True]
    chance, chosen = exploring_rows(*log([nan, nan]))
    assert not chance.any()
    assert not chosen.any()


def test_later_rounds_are_unconfounded_however_they_were_chosen():
    dataset, rows = log([0.9, 0.002, 0.002, 0.9, 0.03], round_index=[0, 0, 0, 1, 1])
    assert unconfounded_rows(dataset, rows).tolist() == [False, True, True, True, True]
    assert unconfounded_rows(dataset, rows[:0]).tolist() == []


def responses(knows, num=8000, flat=1.0, seed=0):
    """Rows of a logger whose score the state holds, except for what it `knows` beside it.

    `flat` below 1 makes the model's predictions flatter than the truth.
    """
    generator = make_generator(seed)
    seen, hidden = torch.randn(2, num, generator=generator)
    chance = torch.rand(num, generator=generator) < 0.3
    wants = seen + knows * hidden + torch.randn(num, generator=generator)
    chosen = ~chance & (wants > 0.5)
    rate = (0.8 * seen + 0.8 * hidden - 0.5).sigmoid()
    labels = (torch.rand(num, 2, generator=generator) < rate[:, None]).float()
    p = (0.75 * flat * seen - 0.45).sigmoid()
    user = torch.arange(num) // 5
    return p[:, None].expand(-1, 2), labels, chance, chosen, seen, user


def test_a_logger_that_knows_more_raises_the_alarm():
    found = confounding_alarm(*responses(knows=1.0), TASKS)
    assert found["raised"] is True
    assert "view (+" in found["reason"]
    assert found["tasks"]["view"]["z"] > found["threshold"]


@pytest.mark.parametrize("flat", [1.0, 0.3])
def test_a_logger_that_knows_no_more_raises_none_even_where_the_model_is_bad(flat):
    found = confounding_alarm(*responses(knows=0.0, flat=flat), TASKS)
    assert found["raised"] is False
    assert abs(found["tasks"]["view"]["z"]) < found["threshold"]


def test_noise_of_the_alarm_is_of_its_standard_error():
    z = [
        confounding_alarm(*responses(0.0, num=2000, seed=s), TASKS)["tasks"]["view"]["z"]
        for s in range(40)
    ]
    assert torch.tensor(z).std().item() == pytest.approx(1.0, abs=0.35)


def test_rows_of_one_user_are_not_independent():
    p, labels, chance, chosen, seen, user = responses(1.0)
    once = confounding_alarm(p, labels, chance, chosen, seen, user, TASKS)
    twice = confounding_alarm(
        *(torch.cat([x, x]) for x in (p, labels, chance, chosen, seen, user)), tasks=TASKS
    )
    assert twice["tasks"]["view"]["z"] == pytest.approx(once["tasks"]["view"]["z"], rel=0.1)


def test_too_few_exploring_rows_raise_nothing_and_say_so():
    p, labels, chance, chosen, seen, user = responses(1.0, num=200)
    found = confounding_alarm(p, labels, chance, chosen, seen, user, TASKS)
    assert found["raised"] is False
    assert is_absent(found)
    assert "100 are needed" in found["reason"]


def test_the_logger_is_learned_where_the_state_shows_what_it_went_by():
    dataset = tiny.tiny_dataset()
    training, judged = dataset.rows("train"), dataset.rows("calibration", "test")
    chance, chosen = exploring_rows(dataset, training)
    logits = logger_logits(dataset, training, chance, chosen, judged, seed=0)
    by_chance, by_choice = exploring_rows(dataset, judged)
    pairs = logits[by_choice][:, None] > logits[by_chance][None, :]
    assert pairs.float().mean() > 0.7
