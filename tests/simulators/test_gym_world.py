"""`simulators.gym` makes a world of an environment that others wrote."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from recomind.candidates import CandidatePool, CandidatesConfig
from recomind.data import TableCatalogue
from recomind.errors import ArtifactError, ConfigError, RecomindError, SchemaError
from recomind.evaluation.metrics import summarise
from recomind.evaluation.rollout import rollout
from recomind.findings import Level
from recomind.policy import RandomPolicy
from recomind.simulation import check_environment, check_world, collect_sessions
from recomind.streams import make_generator
from simulators.gym.actions import ItemActions
from simulators.gym.reading import DefaultReading, Moment, RandomSample
from simulators.gym.world import GymWorld
from tests.flow.in_process import command as command
from tests.simulators.bored_env import NUM_ITEMS, NUM_KINDS, Broken

MODULE = "tests.simulators.bored_env"


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOMIND_ALLOWED_TARGETS", "tests")


def world(name: str = "Bored", **changes: Any) -> GymWorld:
    settings: dict[str, Any] = {"horizon": 10, "history_length": 6} | changes
    return GymWorld(env_id=f"{MODULE}:{name}-v0", **settings)


def run(found: GymWorld, items: list[int], num: int = 5) -> list[Any]:
    found.reset(num, make_generator(4))
    return [found.step(torch.full((num,), item)) for item in items]


@pytest.mark.parametrize("name", ["Bored", "Slate", "Endless"])
def test_passes_the_check(name):
    found = check_world(world(name), seed=1)
    assert [str(f) for f in found if f.level is Level.error] == []


def test_an_environment_of_gymnasiums_own_passes_the_check():
    check_environment(GymWorld(env_id="CartPole-v1", horizon=10, history_length=6))


def test_a_session_is_an_episode_of_the_environment():
    found = world(horizon=40)
    reading, steps = found.reading, run(found, [7] * 40, num=3)
    for session in range(3):
        env = gym.make(f"{MODULE}:Bored-v0").unwrapped
        found.reset(3, make_generator(4))
        place = int(found.hidden["place"][session])
        observation, _ = env.reset(seed=found._pool._envs[0].envs[place]._seed)  # pyright: ignore
        for step in steps:
            if not bool(step.valid[session]):
                break
            observation, reward, terminated, *_ = env.step(7)
            assert bool(step.response.feedback[session, 0]) == (float(reward) > 0)
            assert bool(step.terminated[session]) == terminated
            expected = reading.user_features(observation, {})
            assert np.allclose(step.state.user_features[session], expected, atol=1e-5)
    assert any(bool(step.terminated.any()) for step in steps)


def test_user_features_follow_the_session():
    features = torch.stack([step.state.user_features for step in run(world(), [0, 1, 2, 3])])
    assert torch.equal(features[0, :, :2], features[3, :, :2])  # what the user likes
    assert not torch.equal(features[0, :, 2], features[3, :, 2])  # whether the last one was liked


def test_the_world_tells_what_is_liked_from_what_is_not():
    found = world()
    state = found.reset(200, make_generator(0))
    reading = found.reading
    assert isinstance(reading, DefaultReading)
    mean, spread = torch.from_numpy(reading._mean_U), torch.from_numpy(reading._spread_U)
    likes = (state.user_features * spread + mean).round().long()[:, 0]
    liked = found.step(likes).response.feedback.float().mean()
    found.reset(200, make_generator(0))
    others = found.step((likes + 1) % NUM_KINDS).response.feedback.float().mean()
    assert liked > 0.8
    assert others < 0.6


def test_sub_environments_are_made_once(monkeypatch):
    made = []
    make = gym.make
    monkeypatch.setattr(gym, "make", lambda *a, **k: made.append(a) or make(*a, **k))
    found = world()
    for num in (4, 9, 2, 9):
        found.reset(num, make_generator(num))
        found.step(torch.zeros(num, dtype=torch.int64))
    assert len(made) == 1 + 9  # the sample's, and as many as were ever needed at once


def test_auto_reset_uses_the_places_again():
    found = world()
    found.reset(6, make_generator(0), auto_reset=True)
    valid = torch.stack([found.step(torch.full((6,), 3)).valid for _ in range(60)])
    assert int((~valid).sum()) > 10
    assert found._pool._size == 6


def test_processes_give_the_same_sessions():
    one, two = world(), world(vectorization="async")
    try:
        for ours, theirs in zip(run(one, [1, 2, 3]), run(two, [1, 2, 3]), strict=True):
            assert torch.equal(ours.state.user_features, theirs.state.user_features)
            assert torch.equal(ours.response.feedback, theirs.response.feedback)
    finally:
        two.close()


def test_the_environments_own_limit_is_a_cut_and_not_a_leave():
    found = world("Endless", horizon=10)
    assert all(not bool(s.terminated.any()) for s in run(found, [0] * 10))
    limited = world(env_arguments={"limit": 2})
    steps = run(limited, [0, 1, 2])
    assert bool(steps[1].truncated.all())
    assert not bool(steps[1].terminated.any())
    assert not bool(steps[2].valid.any())


def test_a_stored_state_goes_on_as_before():
    one, two = world(), world()
    run(one, [3, 4, 5])
    two.set_state(one.get_state(), auto_reset=False)
    for item in (6, 7, 8):
        ours, theirs = one.step(torch.full((5,), item)), two.step(torch.full((5,), item))
        assert torch.equal(ours.state.user_features, theirs.state.user_features)
        assert torch.equal(ours.response.feedback, theirs.response.feedback)
        assert torch.equal(ours.valid, theirs.valid)


def test_a_state_that_cannot_be_taken_up_again_is_refused():
    found = world("Restless")
    run(found, [3, 4])
    with pytest.raises(ArtifactError, match=r"Restless-v0 cannot be resumed.*np_random"):
        found.set_state(found.get_state())


def test_an_unseeded_environment_is_named_by_the_check():
    errors = [f for f in check_world(world("Restless")) if f.level is Level.error]
    assert "the same generator gives different sessions" in str(errors[0])


def test_a_discrete_space_may_begin_anywhere():
    plain, moved = run(world(), [3, 9]), run(world(env_arguments={"start": 5}), [3, 9])
    assert torch.equal(plain[1].state.user_features, moved[1].state.user_features)


def test_a_slate_holds_the_item_first_and_others_behind_it():
    actions = ItemActions.of(gym.spaces.MultiDiscrete([NUM_ITEMS] * 4), "slates")
    slates = [actions.action(7, seed=3, step=step) for step in range(20)]
    assert all(slate[0] == 7 and len(set(slate.tolist())) == 4 for slate in slates)
    assert len({tuple(slate) for slate in slates}) > 10
    assert np.array_equal(slates[5], actions.action(7, seed=3, step=5))
    short = ItemActions.of(gym.spaces.MultiDiscrete([2] * 4), "slates").action(1, 0, 0)
    assert short.tolist() == [1, 0, 0, 0]


def test_fewer_items_than_actions():
    found = world(num_items=8)
    assert found.catalogue.num_items == 8
    with pytest.raises(SchemaError, match=r"no such item; got: 8; expected: in \[0, 8\)"):
        run(found, [8])
    assert world(num_items=1000).catalogue.num_items == NUM_ITEMS


def sample_of(*rewards: float) -> RandomSample:
    moments = [
        Moment(
            observation=np.full(3, r, np.float32),
            reward=r,
            terminated=False,
            truncated=False,
            info={},
        )
        for r in rewards
    ]
    return RandomSample(moments=moments, shown=[0] * len(rewards), first=[(np.zeros(3), {})])


def test_observations_written_into_one_array_are_told_apart():
    same, own = world("OneArray").reading, world().reading
    assert isinstance(same, DefaultReading)
    assert isinstance(own, DefaultReading)
    assert np.array_equal(same._mean_U, own._mean_U)
    assert np.array_equal(same._spread_U, own._spread_U)


@pytest.mark.parametrize("reward", [True, np.float64(1), np.array([1]), torch.tensor(1.0), 1])
def test_a_reward_is_any_number(reward):
    moment = Moment.of((np.zeros(1), reward, np.bool_(False), False, {}))
    assert moment.reward == 1.0
    assert isinstance(moment.reward, float)


def test_the_rewards_of_the_environment_itself_are_measured():
    pool = CandidatePool(CandidatesConfig(num_candidates=8, num_nearest=0, num_fresh=0), NUM_ITEMS)
    clicks, seconds = (
        rollout(world(name), RandomPolicy(), pool, torch.arange(12), batch_size=5)
        for name in ("Bored", "Seconds")
    )
    assert clicks.env_reward is not None
    assert seconds.env_reward is not None
    assert torch.equal(clicks.env_reward, clicks.reward)  # the default's task is reward > 0
    assert bool((seconds.env_reward >= seconds.depth).all())
    assert bool((seconds.env_reward > 9.0 * seconds.reward).all())
    mean = summarise(seconds)["env_reward_per_session"]["mean"]
    assert mean == pytest.approx(float(seconds.env_reward.mean()))


def remarks(found: GymWorld) -> list[str]:
    return [str(f) for f in check_world(found, seed=1)]


def test_the_check_says_how_rewards_were_read():
    assert any(
        "note: task 'rewarded': the reward is above 0; got: 2 values" in r for r in remarks(world())
    )
    lines = [r for r in remarks(world("Seconds")) if "the amount is ignored" in r]
    assert len(lines) == 1
    assert lines[0].startswith("warning: task 'rewarded': the reward is above ")
    assert not [r for r in remarks(world(reading=f"{HERE}.Liked")) if "the reward is above" in r]


def test_the_check_says_which_actions_are_items():
    assert "note: tests.simulators.bored_env:Bored-v0: 50 of its 50 actions are items" in remarks(
        world()
    )
    lines = remarks(world(num_items=8))
    assert any(
        r.startswith("warning: some actions of the env") and "got: 8 of 50" in r for r in lines
    )


@pytest.mark.parametrize(
    ("rewards", "threshold"),
    [
        ((-1.0, 2.0), 0.0),
        ((0.0, 1.0), 0.0),
        ((1.0, 2.0, 6.0), 2.0),
        ((1.0, 1.0), 0.0),
        ((-3.0, -2.0, -1.0), -2.0),
    ],
)
def test_what_is_rewarded_is_fitted_to_the_random_sample(rewards, threshold):
    env = gym.make(f"{MODULE}:Bored-v0")
    reading = DefaultReading(env, sample_of(*rewards))
    assert reading.threshold == threshold


class Liked(DefaultReading):
    """Two tasks, the kind of the item that was shown as time, and nobody leaves before step 2."""

    tasks = ("liked", "bored")
    reward_weights = {"liked": 1.0, "bored": -0.5}  # noqa: RUF012

    def feedback(self, moment):
        return [moment.reward > 0, moment.reward <= 0]

    def dwell_s(self, moment):
        return 2.0 * moment.info["kind"]


class TwoNames(Liked):
    """Names two tasks and reports one."""

    def feedback(self, moment):
        return [moment.reward > 0]


class Degrees(DefaultReading):
    """Says how much was liked, where it is asked whether."""

    def feedback(self, moment):
        return [7.0]


class TooMany(DefaultReading):
    """Knows items that the environment does not have."""

    def catalogue(self, num_items):
        return super().catalogue(num_items + 5)


class Arrays(DefaultReading):
    def catalogue(self, num_items):
        dense: Any = np.zeros((1, num_items, 1))
        categorical: Any = np.zeros((num_items, 1))
        return TableCatalogue(
            dense, categorical, dense_names=["x"], categorical_names=["c"], vocab_sizes=[2]
        )


class NoReading:
    def __init__(self, env, sample):
        self.tasks = ("liked",)


def first_item_always(found: GymWorld) -> Any:
    return ("policy of", found)


HERE = "tests.simulators.test_gym_world"


def test_a_reading_of_ones_own():
    found = world(reading=f"{HERE}.Liked")
    (step,) = run(found, [3])
    assert found.tasks == ("liked", "bored")
    assert torch.equal(step.response.feedback[:, 0], ~step.response.feedback[:, 1])
    assert torch.equal(step.response.dwell_s, torch.full((5,), 6.0))
    expected = torch.where(step.response.feedback[:, 0], 1.0, -0.5)
    assert torch.equal(step.reward, expected)
    check_environment(found)


def test_logging_policies():
    pool = CandidatePool(
        CandidatesConfig(num_candidates=NUM_ITEMS, num_nearest=0, num_fresh=0), NUM_ITEMS
    )
    shown = {}
    for name in ("random", "epsilon"):
        found = world(logging=name)
        frame = collect_sessions(
            found,
            found.logging_policy(),
            pool,
            num_sessions=60,
            generator=make_generator(0),
            user_feature_names=found.user_feature_names,
        )
        shown[name] = frame["item_id"].n_unique()
        assert frame["propensity"].is_between(0.0, 1.0, closed="right").all()
        assert frame["u_obs_2"].n_unique() > 1
    assert shown["random"] == NUM_ITEMS
    assert shown["epsilon"] < NUM_ITEMS
    found = world(logging=f"{HERE}.first_item_always")
    assert found.logging_policy() == ("policy of", found)


@pytest.mark.parametrize(
    ("name", "changes", "kind", "message"),
    [
        ("Bred", {}, ConfigError, r"is not a Gymnasium environment; got: .*Bred-v0.*Bored-v0"),
        ("Continuous", {}, ConfigError, r"is not an item; got: Box\(.*expected: Discrete\(N\)"),
        ("Picture", {}, ConfigError, "used as user features; got: 21168 numbers"),
        ("Bored", {"env_arguments": {"colour": 1}}, ConfigError, "does not take world.env_arg"),
        ("Bored", {"vectorization": "fast"}, ConfigError, "vectorization; got: fast"),
        ("Bored", {"logging": "best"}, ConfigError, "unknown logging policy of the world; got: b"),
        ("Bored", {"reading": f"{HERE}.Nobody"}, ConfigError, "world.reading cannot be imported"),
        ("Bored", {"reading": "os.system"}, ConfigError, "world.reading is outside the allowed"),
        ("Bored", {"reading": f"{HERE}.NoReading"}, ConfigError, r"is not a reading; .*'feedback'"),
        (
            "Bored",
            {"reading": f"{HERE}.TwoNames"},
            ConfigError,
            r"feedback\(\) returns another num",
        ),
        ("Bored", {"max_envs": 4}, ConfigError, "at once than world.max_envs; got: 5"),
        ("Bored", {"horizon": 0}, ConfigError, "at least one step; got: 0"),
        ("Bored", {"num_items": -3}, ConfigError, "world.num_items; got: -3; expected: >= 0"),
        ("Bored", {"max_envs": 0}, ConfigError, "world.max_envs; got: 0"),
        ("OldStep", {}, SchemaError, r"step\(\) does not follow .*got: tuple of 4"),
        ("OldReset", {}, SchemaError, r"reset\(\) does not follow .*got: ndarray"),
        ("Wordy", {}, SchemaError, "the reward is not a single number; got: 'much'"),
        ("Exits", {}, RecomindError, r"reading failed; got: SystemExit: 0 \(.*bored_env.py:\d+\)"),
        ("Bored", {"reading": f"{HERE}.TooMany"}, ConfigError, "got: 55 items; expected: 50, one"),
        ("Bored", {"reading": f"{HERE}.Arrays"}, RecomindError, "failed; got: AttributeErr"),
        ("Bored", {"reading": f"{HERE}.Degrees"}, SchemaError, "neither 0 nor 1; got: 7.0"),
    ],
)
def test_bad_input_is_refused_in_one_line(name, changes, kind, message):
    def attempt():
        found = world(name, **changes)
        found.logging_policy()
        run(found, [7])

    with pytest.raises(kind, match=message) as refused:
        attempt()
    assert "\n" not in str(refused.value)


DEFECTS = {
    "observation": (SchemaError, "observation.* not a number; got: nan"),
    "reward": (SchemaError, "the reward of .*Broken-v0 is not a number; got: nan"),
    "crash": (RecomindError, "Broken-v0 or its reading failed; got: ZeroDivisionError: by"),
    "exit": (RecomindError, "Broken-v0 or its reading failed; got: SystemExit: 3"),
}
WHERE = r"bored_env.py:\d+\), in the session of seed \d+ at step \d with item 7"


@pytest.mark.parametrize("what", list(DEFECTS))
def test_what_breaks_in_the_random_sample_is_refused(what, monkeypatch):
    monkeypatch.setattr(Broken, "what", what)
    kind, message = DEFECTS[what]
    with pytest.raises(kind, match=message):
        world("Broken")


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize("what", list(DEFECTS))
def test_what_breaks_in_a_session_reaches_no_log(what, vectorization, monkeypatch):
    found = world("Broken", vectorization=vectorization, num_items=8)
    monkeypatch.setattr(Broken, "what", what)
    pool = CandidatePool(CandidatesConfig(num_candidates=8, num_nearest=0, num_fresh=0), 8)
    kind, message = DEFECTS[what]
    message += f".*{WHERE}" if what == "crash" else ""
    try:
        with pytest.raises(kind, match=message):
            collect_sessions(
                found,
                found.logging_policy(),
                pool,
                num_sessions=20,
                generator=make_generator(0),
                user_feature_names=found.user_feature_names,
            )
    finally:
        found.close()


def test_a_module_that_is_not_trusted_is_not_imported(monkeypatch):
    monkeypatch.delenv("RECOMIND_ALLOWED_TARGETS")
    with pytest.raises(ConfigError, match="imports a module outside the allowed prefixes"):
        world()


def test_the_command_line_collects_from_it(command):
    world_of = f"world.env_id={MODULE}:Bored-v0"
    outcome = command(
        "collect-logs",
        "experiment=tiny",
        "world=gym",
        world_of,
        "allowed_targets=[tests]",
        "collect.num_sessions=20",
    )
    assert outcome.status == 0, outcome.err
    described = command(
        "check-world",
        "experiment=tiny",
        "world=gym",
        world_of,
        "allowed_targets=[tests]",
        "world.env_arguments={start: 3}",
        "world.env_arguments.limit=2",
        "world.num_items=7",
    )
    assert described.status == 0, described.err
    assert "13 sessions of random items: 2.0 steps on average" in described.out
    assert "some actions of the environment are not items; got: 7 of 50" in described.out
    outcome = command("check-world", "experiment=tiny", "world=gym", "world.env_id=Bred-v0")
    assert outcome.status == 2
    assert "is not a Gymnasium environment" in outcome.err
