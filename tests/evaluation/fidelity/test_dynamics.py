"""Policies of one topic and of many, and what two simulators that disagree on them ask for."""

from __future__ import annotations

import pytest
import torch

from recomind.data import TableCatalogue
from recomind.evaluation.fidelity.absent import is_absent
from recomind.evaluation.fidelity.dynamics import (
    ALTERNATE,
    GREEDY,
    RANDOM,
    REPEAT,
    dynamics_of,
    dynamics_section,
    plan_note,
    plan_of,
    topic_column,
)
from recomind.streams import draw_seeds, make_generator
from recomind.types import Policy
from tests.simulation import tiny


def found():
    pool = tiny.tiny_pool()
    made = dynamics_of([tiny.tiny_ranker(0)], tiny.WEIGHTS, tiny.tiny_catalogue(), pool)
    assert made is not None
    return made


def topics(policy: Policy) -> torch.Tensor:
    """[S, 3] topics of the first three items of sessions in the world."""
    world, pool, catalogue = tiny.tiny_world(), tiny.tiny_pool(), tiny.tiny_catalogue()
    column = topic_column(catalogue)
    state, shown = world.reset(60, make_generator(2), auto_reset=False), []
    for _ in range(3):
        candidates = pool.candidates(state, world.streams)
        item_id = policy.act(state, candidates, torch.full((60, 4), 0.5)).item_id
        shown.append(catalogue.features(item_id).categorical[..., column])
        step = world.step(item_id)
        state = step.state
    return torch.stack(shown, dim=1)[(state.step == 3)]


def test_one_stays_with_a_topic_and_the_other_keeps_away_from_it():
    policies = found().policies
    assert found().topic == "topic"
    repeated, alternated, greedy = (topics(policies[n]) for n in (REPEAT, ALTERNATE, GREEDY))
    same = (repeated[:, 1:] == repeated[:, :-1]).float().mean()
    assert float(same) > 0.6  # a pool may have none of the topic
    assert float((greedy[:, 1:] == greedy[:, :-1]).float().mean()) < float(same)
    assert not bool((alternated[:, 1] == alternated[:, 0]).any())
    assert not bool((alternated[:, 2:] == alternated[:, :2]).any())


def planned(ours, theirs):
    names = [GREEDY, RANDOM, REPEAT, ALTERNATE]
    return plan_of(names, [(ours, [0.1] * 4), (theirs, [0.1] * 4)], 100)


def test_what_the_simulators_disagree_on_is_collected_first():
    (plan,) = planned([5.0, 2.0, 6.0, 4.0], [4.0, 0.5, 2.0, 3.9])  # neither chance nor agreement
    assert (plan["policy"], plan["values"]) == (REPEAT, [6.0, 2.0])
    assert plan["sessions"] == 100  # deviation 1, twice that over a tenth of 2, squared
    assert plan["cost"] == pytest.approx(0.5)
    note = plan_note({"plan": [plan]})
    assert note.startswith("warning: the logs do not tell what a session of repeat_topic is worth")
    assert note.endswith("collect 100 sessions of it first, which cost 50% of the ranker's reward")


def test_no_plan_where_they_agree():
    assert planned([5.0, 2.0, 4.0, 4.0], [4.0, 0.5, 3.0, 3.9]) == []
    assert plan_note({"plan": []}) == ""


def test_the_section_has_every_environment(simulator, holdout):
    environments = {"simulator": simulator, "holdout_simulator": holdout}
    environments["world"] = tiny.tiny_world()
    section = dynamics_section(found(), environments, draw_seeds(10, make_generator(0)))
    assert section["policies"] == [GREEDY, RANDOM, REPEAT, ALTERNATE]
    assert set(section["rewards"]) == set(section["errors"]) == set(environments)
    assert all(len(rewards) == 4 for rewards in section["rewards"].values())


def test_items_that_nothing_groups_have_no_dynamics():
    ids = torch.arange(30)[:, None]
    names = {"dense_names": ("x",), "categorical_names": ("item",), "vocab_sizes": (30,)}
    catalogue = TableCatalogue(torch.zeros(1, 30, 1), ids, **names)
    assert topic_column(catalogue) is None
    assert dynamics_of([tiny.tiny_ranker(0)], tiny.WEIGHTS, catalogue, tiny.tiny_pool()) is None
    assert is_absent(dynamics_section(None, {}, torch.zeros(2, dtype=torch.int64)))
    assert plan_note(dynamics_section(None, {}, torch.zeros(2, dtype=torch.int64))) == ""
