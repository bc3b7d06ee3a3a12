"""The learned simulators: pessimism, what they refuse, and their way to disk and back."""

from __future__ import annotations

import copy
import dataclasses
import functools

import pytest
import torch

from recomind.artifacts import Manifest, read_manifest
from recomind.errors import ArtifactError, ConfigError, RecomindError, SchemaError
from recomind.ranker import save_rankers
from recomind.simulation import (
    LearnedSimulator,
    Pessimism,
    fit_holdout,
    fit_simulator,
    load_holdout,
    load_simulator,
    response,
    state_tensors,
)
from recomind.simulation.response import joint_rate
from recomind.streams import make_generator
from tests.simulation import tiny
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
    assert members.shape == (3, 60, 4)  # two rankers and the trees
    assert bool(((members > 0) & (members < 1)).all())
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert float((members[one] - members[other]).abs().mean()) > 1e-3


def test_the_minimum_is_the_worst_member_in_what_the_reward_weighs(simulator):
    state = middle_state(simulator)
    with torch.no_grad():
        members = simulator.member_probabilities(state, items(60))
    p, _ = with_pessimism(simulator, Pessimism.minimum)
    # To the last digits only: running sessions are encoded event by event, and these anew.
    close = functools.partial(torch.testing.assert_close, rtol=0.0, atol=2e-6)
    close(p[:, WATCH], members[:, :, WATCH].min(0).values)
    close(p[:, HIDE], members[:, :, HIDE].max(0).values)  # weighs less than nothing
    close(p[:, [LONG_VIEW, LIKE]], members.mean(0)[:, [LONG_VIEW, LIKE]])


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


def test_a_simulator_tells_the_rates_that_it_draws_with(simulator):
    state = middle_state(simulator)
    probability = simulator.probabilities(state, items(60))
    step = simulator.step(items(60))
    hazard = simulator.hazard(step.state)
    close = functools.partial(torch.testing.assert_close, rtol=0.0, atol=2e-6)
    rate = joint_rate(probability, simulator.couplings)
    assert 0 < int(step.valid.sum()) < 60  # those that have ended are shown nothing
    close(step.response.feedback_rate, rate * step.valid[:, None])
    close(step.expected_reward, rate @ simulator.reward_weights_H * step.valid)
    close(step.leave_rate, hazard * step.valid)
    assert not torch.equal(step.expected_reward, step.reward)


def test_the_calibration_on_chance_comes_after_fatigue_and_is_kept(
    simulator_folder, ranker_folder, rankers, dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr(response, "_FEW_EXPLORING", 20)  # this log has few
    fit_simulator(
        tmp_path / "s", rankers, dataset, tiny.SIMULATOR, Manifest(kind="simulator"), seed=0
    )
    plain = load_simulator(simulator_folder, ranker_folder, WEIGHTS)
    mapped = load_simulator(tmp_path / "s", ranker_folder, WEIGHTS)
    assert plain.calibrations is None
    state = middle_state(plain)
    with torch.no_grad():
        before = plain.member_probabilities(state, items(60))
        after = mapped.member_probabilities(state, items(60))
    maps = mapped.calibrations or []
    expected = [response.calibrated(c, p) for c, p in zip(maps, before[:-1], strict=True)]
    torch.testing.assert_close(after[:-1], torch.stack(expected), rtol=0.0, atol=2e-6)
    assert float((after - before).abs().max()) > 0.01


def test_one_member_has_nothing_to_disagree_with(simulator):
    for name in ("rankers", "fatigue_nets", "hazards"):
        setattr(simulator, name, getattr(simulator, name)[:1])
    simulator.trees = None
    mean = with_pessimism(simulator, Pessimism.none)[0]
    assert torch.equal(with_pessimism(simulator, Pessimism.minimum)[0], mean)
    assert torch.equal(with_pessimism(simulator, Pessimism.deviation)[0], mean)


def test_fatigue_scales_what_the_ranker_says(simulator):
    state = middle_state(simulator)
    with torch.no_grad():
        before = simulator.member_probabilities(state, items(60))
        simulator.fatigue_nets[0].net[-1].weight.zero_()
        simulator.fatigue_nets[0].net[-1].bias.fill_(-20.0)
        after = simulator.member_probabilities(state, items(60))
    assert float(after[0].max()) < 1e-6
    assert torch.equal(after[1], before[1])


def test_without_fatigue_the_response_is_the_rankers_alone(dataset, rankers, tmp_path, simulator):
    config = dataclasses.replace(SIMULATOR, fatigue=False)
    save_rankers(tmp_path / "rankers", rankers, dataset.catalogue, Manifest(kind=""))
    fit_simulator(tmp_path / "s", rankers, dataset, config, Manifest(kind=""), seed=0)
    assert list((tmp_path / "s").glob("gate_*")) == []
    untiring = load_simulator(tmp_path / "s", tmp_path / "rankers", WEIGHTS)
    state = middle_state(simulator)
    with torch.no_grad():
        members = untiring.member_probabilities(state, items(60))
        tiring = simulator.member_probabilities(state, items(60))
        for member, ranker in zip(members[:-1], rankers, strict=True):
            logits = ranker.score(ranker.encode_state(state), items(60)[:, None])[:, 0]
            assert torch.allclose(member, logits.sigmoid(), atol=1e-5)
        assert bool((members > tiring)[:-1].all())
        assert torch.equal(members[-1], tiring[-1])  # trees have no fatigue of their own
    assert torch.allclose(untiring.hazard(state), simulator.hazard(state), atol=1e-5)


# Truncation where the members disagree.


def test_sessions_are_truncated_exactly_where_the_members_disagree(simulator):
    free = play(simulator)
    with torch.no_grad():
        simulator.reset(60, make_generator(0))
        members = simulator.member_probabilities(simulator._state, items(60, 0))
    rewards = members @ simulator.reward_weights_H
    apart = rewards.amax(0) - rewards.amin(0)
    ordered = apart.sort().values  # a bound between two values: the step may round the last bit
    simulator.uncertainty_stop = float(ordered[29:31].mean())
    first = play(simulator, num_steps=2)
    expected = (apart > simulator.uncertainty_stop) & ~free[0].terminated
    assert 0 < int(expected.sum()) < 60
    assert torch.equal(first[0].truncated, expected)
    assert torch.equal(first[0].terminated, free[0].terminated)
    assert torch.equal(first[0].reward, free[0].reward)  # the event itself counts
    assert torch.equal(first[1].valid, ~(first[0].truncated | first[0].terminated))


def test_a_bound_that_is_never_reached_changes_nothing(simulator):
    free = play(simulator)
    simulator.uncertainty_stop = 10.0
    assert same_steps(free, play(simulator))


def test_a_run_with_an_uncertainty_stop_goes_on_where_its_state_was_taken(simulator):
    simulator.uncertainty_stop = 0.03
    simulator.reset(40, make_generator(0), auto_reset=True)
    for index in range(4):
        simulator.step(items(40, index))
    kept = {name: value.clone() for name, value in simulator.get_state().items()}
    went_on = [simulator.step(items(40, 9)) for _ in range(3)]
    assert bool(
        torch.stack([step.truncated & (step.state.step < HORIZON) for step in went_on]).any()
    )
    simulator.set_state(kept)
    assert same_steps(went_on, [simulator.step(items(40, 9)) for _ in range(3)])


def test_one_ranker_has_no_disagreement_to_stop_at(simulator, dataset, rankers, tmp_path):
    config = dataclasses.replace(SIMULATOR, uncertainty_stop=0.1)
    message = r"uncertainty_stop needs an ensemble; got: 1 ranker; .*ranker.num_members"
    with pytest.raises(ConfigError, match=message):
        fit_simulator(tmp_path / "s", rankers[:1], dataset, config, Manifest(kind=""), seed=0)
    with pytest.raises(ConfigError, match=message):
        LearnedSimulator(
            simulator.rankers[:1],
            None,
            simulator.hazards[:1],
            uncertainty_stop=0.1,
            starts=simulator.starts,
            dwell=simulator.dwell,
            couplings=simulator.couplings,
            reward_weights=WEIGHTS,
            horizon=3,
        )


@pytest.mark.parametrize("bound", [-0.1, float("nan"), float("inf")])
def test_a_bound_is_a_difference_of_rewards(bound):
    with pytest.raises(ConfigError, match=r"uncertainty_stop is a difference of rewards; got: "):
        dataclasses.replace(SIMULATOR, uncertainty_stop=bound)


# What is refused.


class Diverging:
    """A ranker whose score of one task is NaN from the third step on."""

    def __init__(self, ranker, task):
        self.ranker, self.task = ranker, task
        self.tasks, self.catalogue = ranker.tasks, ranker.catalogue

    def encode_state(self, state, snapshot=None):
        return self.ranker.encode_state(state, snapshot), state.step

    def score(self, encoding, item_id, snapshot=None):
        logits = self.ranker.score(encoding[0], item_id, snapshot).clone()
        logits[encoding[1] >= 2, :, self.task] = torch.nan
        return logits


@pytest.mark.parametrize("pessimism", list(Pessimism))
def test_a_ranker_that_diverges_in_a_session_is_named(simulator, pessimism):
    simulator.rankers[1] = Diverging(simulator.rankers[1], LIKE)
    simulator.pessimism = pessimism
    simulator.reset(4, make_generator(0))
    simulator.step(items(4))
    simulator.step(items(4))
    message = (
        r"not finite; got: nan for like at step 2 from member 1 of 3; .*ranker's quality report"
    )
    with pytest.raises(RecomindError, match=message):
        simulator.step(items(4))


def test_a_leave_model_that_diverged_is_named(simulator):
    with torch.no_grad():
        simulator.hazards[0].net[-1].bias.fill_(torch.nan)
    simulator.reset(4, make_generator(0))
    message = r"not finite; got: nan for leaving at step 0 from member 0 of 3"
    with pytest.raises(RecomindError, match=message):
        simulator.step(items(4))


def test_a_split_without_events_is_refused(dataset, rankers, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "_holdout", torch.ones_like(dataset._holdout))
    with pytest.raises(SchemaError, match=r"no events of training users .*holdout_share"):
        fit_simulator(tmp_path / "s", rankers, dataset, SIMULATOR, Manifest(kind=""), seed=0)
    assert list(tmp_path.iterdir()) == []


def test_rankers_of_different_tasks_are_refused(simulator):
    other = copy.deepcopy(simulator.rankers[1])
    other.tasks = ("watch_10s", "hide")
    with pytest.raises(SchemaError, match="rankers with different tasks"):
        LearnedSimulator(
            [simulator.rankers[0], other],
            simulator.fatigue_nets,
            simulator.hazards,
            starts=simulator.starts,
            dwell=simulator.dwell,
            couplings=simulator.couplings,
            reward_weights=WEIGHTS,
            horizon=3,
        )


def test_a_simulator_needs_a_state_to_begin_from(simulator):
    with pytest.raises(SchemaError, match="no session to begin from"):
        LearnedSimulator(
            simulator.rankers,
            simulator.fatigue_nets,
            simulator.hazards,
            starts=simulator.starts[:0],
            dwell=simulator.dwell,
            couplings=simulator.couplings,
            reward_weights=WEIGHTS,
            horizon=3,
        )


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
        Pessimism.minimum,
        HORIZON,
        "watch_10s",
    )
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


@torch.no_grad()
def test_the_holdout_knows_from_few_events_how_long_an_item_takes(holdout, dataset):
    rows = dataset.rows("train", holdout=False)
    rows = rows[dataset.labels(rows)[:, :2].bool().all(1)]
    content, truth = dataset.catalogue.features(dataset.item_id(rows)).dense, dataset.dwell_s(rows)
    feedback = dataset.labels(rows).bool()
    seconds = holdout.dwell.sample(content, feedback, torch.full((len(rows),), 0.5))
    both = torch.stack([seconds, truth]).log1p()
    assert float((both[0] - both[1]).mean()) == pytest.approx(0.0, abs=0.15)
    assert float(torch.corrcoef(both)[0, 1]) > 0.6


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
