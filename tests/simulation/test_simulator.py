"""The learned simulators: pessimism, what they refuse, and their way to disk and back."""

from __future__ import annotations

import copy

import pytest
import torch

from recomind.artifacts import Manifest, read_manifest
from recomind.errors import ArtifactError, RecomindError, SchemaError
from recomind.simulation import (
    LearnedSimulator,
    Pessimism,
    fit_holdout,
    load_holdout,
    load_simulator,
)
from recomind.simulation.environment import state_tensors
from recomind.simulation.store import fit_simulator
from recomind.streams import make_generator
from tests.simulation.tiny import HORIZON, NUM_ITEMS, SIMULATOR, WEIGHTS

WATCH, LONG_VIEW, LIKE, HIDE = range(4)


@pytest.fixture
def simulator(simulator_folder, ranker_folder):
    return load_simulator(simulator_folder, ranker_folder, WEIGHTS)


@pytest.fixture
def holdout(holdout_folder):
    return load_holdout(holdout_folder, WEIGHTS)


def items(num, seed=0):
    return torch.randint(NUM_ITEMS, (num,), generator=make_generator(seed))


def play(env, num=60, num_steps=HORIZON):
    env.reset(num, make_generator(0))
    return [env.step(items(num, index)) for index in range(num_steps)]


def middle_state(env, num=60):
    return play(env, num, 4)[-1].state


def same_steps(one, two):
    return all(
        torch.equal(a.response.feedback, b.response.feedback)
        and torch.equal(a.response.dwell_s, b.response.dwell_s)
        and torch.equal(a.response.left, b.response.left)
        and torch.equal(a.reward, b.reward)
        for a, b in zip(one, two, strict=True)
    )


@torch.no_grad()
def with_pessimism(simulator, kind, k=1.0):
    changed = copy.copy(simulator)
    changed.pessimism, changed.deviation_k = kind, k
    state = middle_state(simulator)
    return changed.probabilities(state, items(60)), changed.hazard(state)


# Pessimism.


@torch.no_grad()
def test_the_members_disagree(simulator):
    members = simulator.member_probabilities(middle_state(simulator), items(60))
    assert members.shape == (2, 60, 4)
    assert bool(((members > 0) & (members < 1)).all())
    assert float((members[0] - members[1]).abs().mean()) > 1e-3


def test_the_minimum_is_the_worst_member_in_what_the_reward_weighs(simulator):
    state = middle_state(simulator)
    with torch.no_grad():
        members = simulator.member_probabilities(state, items(60))
    p, _ = with_pessimism(simulator, Pessimism.minimum)
    assert torch.equal(p[:, WATCH], members[:, :, WATCH].min(0).values)
    assert torch.equal(p[:, HIDE], members[:, :, HIDE].max(0).values)  # weighs less than nothing
    assert torch.equal(p[:, [LONG_VIEW, LIKE]], members.mean(0)[:, [LONG_VIEW, LIKE]])


def test_pessimism_lowers_what_is_wanted_and_raises_the_hazard(simulator):
    mean, mean_hazard = with_pessimism(simulator, Pessimism.none)
    for kind in (Pessimism.minimum, Pessimism.deviation):
        worse, hazard = with_pessimism(simulator, kind)
        assert bool((worse[:, WATCH] < mean[:, WATCH]).all())
        assert bool((worse[:, HIDE] >= mean[:, HIDE]).all())
        assert torch.equal(worse[:, LIKE], mean[:, LIKE])
        assert bool((hazard >= mean_hazard).all())
        assert float((hazard - mean_hazard).max()) > 0


def test_the_deviation_is_measured_in_standard_deviations(simulator):
    mean, _ = with_pessimism(simulator, Pessimism.none)
    assert torch.equal(with_pessimism(simulator, Pessimism.deviation, 0.0)[0], mean)
    with torch.no_grad():
        members = simulator.member_probabilities(middle_state(simulator), items(60))
    p, _ = with_pessimism(simulator, Pessimism.deviation, 0.5)
    expected = mean[:, WATCH] - 0.5 * members[:, :, WATCH].std(0)
    assert torch.allclose(p[:, WATCH], expected.clamp(0, 1))
    far, far_hazard = with_pessimism(simulator, Pessimism.deviation, 1e4)
    assert bool(((far >= 0) & (far <= 1)).all())
    assert bool(((far_hazard >= 0) & (far_hazard <= 1)).all())


def test_one_member_has_nothing_to_disagree_with(simulator):
    for name in ("rankers", "gates", "hazards"):
        setattr(simulator, name, getattr(simulator, name)[:1])
    mean = with_pessimism(simulator, Pessimism.none)[0]
    assert torch.equal(with_pessimism(simulator, Pessimism.minimum)[0], mean)
    assert torch.equal(with_pessimism(simulator, Pessimism.deviation)[0], mean)


def test_the_gate_scales_what_the_ranker_says(simulator):
    state = middle_state(simulator)
    with torch.no_grad():
        before = simulator.member_probabilities(state, items(60))
        simulator.gates[0].net[-1].weight.zero_()
        simulator.gates[0].net[-1].bias.fill_(-20.0)
        after = simulator.member_probabilities(state, items(60))
    assert float(after[0].max()) < 1e-6
    assert torch.equal(after[1], before[1])


# What is refused.


def test_a_ranker_that_diverged_is_named_as_such(simulator):
    with torch.no_grad():
        simulator.rankers[1].head.bias.fill_(torch.nan)
    simulator.reset(4, make_generator(0))
    with pytest.raises(RecomindError, match=r"not finite; got: at step 0; .*ranker"):
        simulator.step(items(4))


def test_rankers_of_different_tasks_are_refused(simulator):
    other = copy.deepcopy(simulator.rankers[1])
    other.tasks = ("watch_10s", "hide")
    with pytest.raises(SchemaError, match="rankers with different tasks"):
        LearnedSimulator(
            [simulator.rankers[0], other], simulator.gates, simulator.hazards,
            starts=simulator.starts, dwell=simulator.dwell, couplings=simulator.couplings,
            reward_weights=WEIGHTS, horizon=3,
        )  # fmt: skip


def test_a_simulator_needs_a_state_to_begin_from(simulator):
    with pytest.raises(SchemaError, match="no session to begin from"):
        LearnedSimulator(
            simulator.rankers, simulator.gates, simulator.hazards,
            starts=simulator.starts[:0], dwell=simulator.dwell, couplings=simulator.couplings,
            reward_weights=WEIGHTS, horizon=3,
        )  # fmt: skip


def test_too_few_events_of_held_out_users_are_refused(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "_holdout", torch.zeros_like(dataset._holdout))
    with pytest.raises(SchemaError, match=r"too few hold-out events.*got: 0.*holdout_share"):
        fit_holdout(tmp_path / "h", dataset, SIMULATOR, Manifest(kind=""), seed=0)
    assert list(tmp_path.iterdir()) == []


# To disk and back.


def test_the_same_simulator_comes_back(simulator, simulator_folder, ranker_folder):
    again = load_simulator(simulator_folder, ranker_folder, WEIGHTS)
    assert same_steps(play(simulator), play(again))


def test_fitting_again_gives_the_same_files(dataset, rankers, simulator_folder, tmp_path):
    folder = tmp_path / "again"
    fit_simulator(folder, rankers, dataset, SIMULATOR, Manifest(kind=""), seed=0)
    assert read_manifest(folder).files == read_manifest(simulator_folder).files
    fit_simulator(folder, rankers, dataset, SIMULATOR, Manifest(kind=""), seed=1)
    assert read_manifest(folder).files != read_manifest(simulator_folder).files


def test_settings_of_the_file_hold_unless_others_are_given(simulator_folder, ranker_folder):
    assert SIMULATOR.pessimism is Pessimism.minimum
    kept = load_simulator(simulator_folder, ranker_folder, WEIGHTS)
    assert (kept.pessimism, kept.horizon, kept.tasks[0]) == (
        Pessimism.minimum, HORIZON, "watch_10s",
    )  # fmt: skip
    changed = load_simulator(
        simulator_folder, ranker_folder, WEIGHTS, pessimism=Pessimism.none, deviation_k=2.0
    )
    assert (changed.pessimism, changed.deviation_k) == (Pessimism.none, 2.0)


def test_sessions_begin_as_those_of_the_training_users_did(simulator, dataset):
    starts = dataset.state(dataset.session_starts("train", holdout=False))
    assert set(simulator.starts.user_id.tolist()) == set(starts.user_id.tolist())
    state = simulator.reset(500, make_generator(0))
    assert not bool(state.step.any())
    assert set(state.user_id.tolist()) <= set(starts.user_id.tolist())
    assert len(state.user_id.unique()) > 0.9 * len(starts)


def test_the_holdout_simulator_begins_with_other_users_on_later_days(holdout, dataset):
    starts = dataset.state(dataset.session_starts("calibration", "test", holdout=True))
    assert set(holdout.starts.user_id.tolist()) == set(starts.user_id.tolist())
    trained_on = dataset.state(dataset.rows("train", holdout=False)).user_id
    assert not set(holdout.starts.user_id.tolist()) & set(trained_on.tolist())


def test_the_same_holdout_comes_back(holdout, holdout_folder):
    again = load_holdout(holdout_folder, WEIGHTS)
    assert same_steps(play(holdout), play(again))
    assert {p.suffix for p in holdout_folder.iterdir()} <= {".json", ".txt", ".safetensors"}


def test_the_holdout_knows_good_from_bad(holdout, holdout_folder):
    metrics = read_manifest(holdout_folder).metrics
    assert 0.4 < metrics["auc.watch_10s"] <= 1.0
    state = middle_state(holdout)
    p, hazard = holdout.probabilities(state, items(60)), holdout.hazard(state)
    assert p.shape == (60, 4)
    assert bool(((p > 0) & (p < 1)).all())
    assert bool(((hazard > 0) & (hazard < 1)).all())
    assert float(p[:, WATCH].std()) > 0.01
    assert "hide" in read_manifest(holdout_folder).extra["constants"]  # too rare for a tree


def test_a_simulator_is_not_a_holdout(simulator_folder, holdout_folder, ranker_folder):
    with pytest.raises(ArtifactError, match=r"another kind; got: simulator .*holdout_simulator"):
        load_holdout(simulator_folder, WEIGHTS)
    with pytest.raises(ArtifactError, match=r"another kind; got: holdout_simulator .*simulator"):
        load_simulator(holdout_folder, ranker_folder, WEIGHTS)


def test_users_of_the_simulator_watch_about_as_much_as_the_logged_ones(simulator, dataset):
    """With the mean of the members, at the logged states and items."""
    simulator.pessimism = Pessimism.none
    rows = dataset.rows("train", holdout=False)
    state = dataset.state(rows)
    with torch.no_grad():
        p = simulator.probabilities(state, dataset.item_id(rows))[:, WATCH]
    assert float(p.mean()) == pytest.approx(float(dataset.labels(rows)[:, WATCH].mean()), abs=0.08)


def test_states_of_the_simulator_are_its_own(simulator):
    """A step does not write into the states that sessions begin from."""
    before = {k: v.clone() for k, v in state_tensors(simulator.starts).items()}
    play(simulator)
    assert all(torch.equal(before[k], v) for k, v in state_tensors(simulator.starts).items())
