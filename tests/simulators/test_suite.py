"""Every world of the suite keeps the contract, and its mechanism does what its page says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from recomind.candidates import CandidatePool, CandidatesConfig
from recomind.config import conf_dir, make_world, resolve
from recomind.errors import ConfigError
from recomind.evaluation.rollout import rollout
from recomind.simulation import Hidden, check_environment
from recomind.streams import SessionStreams, draw_seeds, hash_uniform, make_generator
from simulators.suite.logs import LOGS
from simulators.suite.references import references
from simulators.suite.repetition import Repetition
from simulators.suite.world import LIKED
from simulators.suite.worlds import CHOSEN_ON, HELD_BACK, WORLDS
from tests.cli.test_config import composed

NUM = 32  # users of a test


def world(name: str, **changes: Any) -> Any:
    settings: dict[str, Any] = {"num_items": 60 if name == "repetition" else 300}
    return WORLDS[name](**(settings | changes))


def started(name: str, **changes: Any) -> tuple[Any, Hidden]:
    """A world with sessions at step 0, and their hidden state."""
    made = world(name, **changes)
    made.reset(NUM, make_generator(0))
    return made, made.hidden


def pool_of(made, num_candidates):
    recent = 0 if isinstance(made, Repetition) else 20
    settings = CandidatesConfig(
        num_candidates=num_candidates, num_nearest=0, num_fresh=0, exclude_recent=recent
    )
    return CandidatePool(settings, made.catalogue.num_items)


def of_topic(made, topic, num=NUM):
    """`num` times the first item of a topic."""
    return (made.topic_N == topic).nonzero()[0].expand(num)


def liked_rate(made, hidden, item_B):
    return made.rates(hidden, item_B[:, None])[:, 0, LIKED]


def feedback(made, liked=True):
    given = torch.zeros(NUM, len(made.tasks), dtype=torch.bool)
    given[:, LIKED] = liked
    return given


# The contract, the split, the settings.


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_keeps_the_contract(name):
    check_environment(world(name, horizon=3, history_length=4, warm_events=2))


@pytest.mark.parametrize("name", WORLDS)
def test_its_logging_policies_have_the_propensities_that_they_say(name):
    """The mean of 1 / propensity of what was chosen is the number of candidates."""
    num, repeats = 20, 300
    for logs in LOGS:
        made = world(name, logging=logs)
        state = made.reset(num, make_generator(0)).clone()
        pools = pool_of(made, 4).candidates(state, made.streams)
        uniforms = SessionStreams(torch.arange(num * repeats)).uniform(
            torch.zeros(num * repeats).long(), 4
        )
        rows = torch.arange(num).repeat(repeats)
        decision = made.logging_policy().act(state[rows], pools[rows], uniforms)
        weights = (-decision.log_propensity.double()).exp()
        error = float(weights.std()) / len(weights) ** 0.5
        assert abs(float(weights.mean()) - 4.0) < 4 * error + 1e-6


def test_each_world_is_in_one_half_as_the_coins_fell():
    assert sorted((*CHOSEN_ON, *HELD_BACK)) == sorted(WORLDS)
    assert len(CHOSEN_ON) == len(HELD_BACK)
    pairs = (
        ("clickbait", "day"),
        ("mood", "delayed"),
        ("herding", "time_budget"),
        ("steady", "ranker_optimal"),
    )
    heads = (hash_uniform(torch.arange(4), 20) < 0.5).tolist()
    for (first, second), head in zip(pairs, heads, strict=True):
        chosen, held = (first, second) if head else (second, first)
        assert chosen in CHOSEN_ON
        assert held in HELD_BACK


def test_there_is_a_setting_for_every_world():
    files = {path.stem: OmegaConf.load(path) for path in conf_dir().glob("world/suite/*.yaml")}
    shared = files.pop("shared")
    for name, kind in WORLDS.items():
        config = OmegaConf.merge(shared, files.pop(name))
        assert config.world._target_ == f"{kind.__module__}.{kind.__name__}"
        weights: Any = OmegaConf.to_container(config.ranker)
        made = world(name)
        task = made.tasks[int(made.reward_weights_H.argmax())]
        assert weights["utility_weights"] == f"${{oc.create:{{{task}:1.0}}}}"
    assert not files


def test_a_world_is_a_setting_of_a_run():
    config = resolve(composed("world=suite/repetition", "world.logging=ranker"))
    made: Any = make_world(config)
    assert (made.logging, made.catalogue.num_items) == ("ranker", 60)
    assert config.candidates.exclude_recent == 0
    assert (config.gate.target_metric, config.gate.must_not_fall) == ("reward_per_session", [])


def test_an_unknown_logging_policy_is_refused():
    with pytest.raises(ConfigError, match=r"unknown logging policy.*did you mean 'weak'"):
        world("steady", logging="week").logging_policy()


# References.

NOTHING_TO_WIN = ("steady", "ranker_optimal")


QUICK = ("boredom", "steady")  # the others take half a minute together


@pytest.mark.parametrize(
    "name", [pytest.param(w, marks=[] if w in QUICK else pytest.mark.slow) for w in WORLDS]
)
def test_looking_ahead_pays_where_the_mechanism_says_so(name):
    made = WORLDS[name](num_items=60 if name == "repetition" else 1000)
    pool, seeds = pool_of(made, 16), draw_seeds(120, make_generator(5))
    reward = {
        arm: rollout(made, policy, pool, seeds).reward for arm, policy in references(made).items()
    }
    mean = {arm: float(each.mean()) for arm, each in reward.items()}
    if name != "delayed":  # who presses at once sells hardly more than chance does
        assert mean["myopic"] > 1.15 * mean["random"]
    if name in NOTHING_TO_WIN:
        assert torch.equal(reward["look_ahead"], reward["myopic"])
    else:
        assert mean["look_ahead"] > 1.1 * mean["myopic"]


# Mechanisms: each test fails where the mechanism is off.


def test_steady_keeps_nothing():
    made, before = started("steady")
    made.step(of_topic(made, 0))
    assert all(torch.equal(made.hidden[name], value) for name, value in before.items())


def test_ranker_optimal_spends_patience_on_what_is_not_liked():
    made, hidden = started("ranker_optimal")
    item = of_topic(made, 0)
    for _ in range(3):
        assert float(made.leave_rate(hidden, item, feedback(made, False)).max()) < 1.0
        hidden = made.change(hidden, item, feedback(made, False))
    assert bool((made.leave_rate(hidden, item, feedback(made, False)) == 1.0).all())
    assert bool((made.change(hidden, item, feedback(made))["patience"] > 0.0).all())
    items = torch.arange(40).expand(NUM, -1)
    now, later = made.expected_reward(made.hidden, items), made.consequence(made.hidden, items)
    assert torch.equal(now.argsort(1), later.argsort(1))


def test_satiation_lowers_what_is_expected_of_the_topic_that_was_shown():
    made = world("satiation")
    made.reset(NUM, make_generator(0))
    item = torch.full((NUM,), 7)
    before = made.expected_reward(made.hidden, item[:, None])
    made.step(item)
    assert bool((made.expected_reward(made.hidden, item[:, None]) < before).all())


def test_drift_moves_interest_to_the_level_of_the_topic():
    made, hidden = started("drift")
    fad, acquired = of_topic(made, 0), of_topic(made, 1)
    for _ in range(8):
        hidden = made.change(hidden, fad, feedback(made))
        hidden = made.change(hidden, acquired, feedback(made))
    level = made.by_topic(made.level)
    assert torch.allclose(hidden["taste"][:, :2], level[:2].expand(NUM, 2), atol=0.4)
    assert torch.equal(hidden["taste"][:, 2:], made.hidden["taste"][:, 2:])
    slower = made.change(made.hidden, acquired, feedback(made, False))["taste"][:, 1]
    faster = made.change(made.hidden, acquired, feedback(made))["taste"][:, 1]
    assert bool(((faster - slower) * (level[1] - made.hidden["taste"][:, 1]) > 0.0).all())


def test_boredom_is_with_everything_for_some_steps():
    made, hidden = started("boredom")
    item, other = of_topic(made, 0), of_topic(made, 1)
    fresh = liked_rate(made, hidden, other)
    for _ in range(2):
        hidden = made.change(hidden, item, feedback(made))
        assert torch.equal(liked_rate(made, hidden, other), fresh)
    hidden = made.change(hidden, item, feedback(made))
    for _ in range(int(made.duration)):
        assert torch.allclose(liked_rate(made, hidden, other), 0.1 * fresh)
        hidden = made.change(hidden, other, feedback(made, False))
    assert torch.equal(liked_rate(made, hidden, other), fresh)


def test_boredom_does_not_come_of_different_topics():
    made, hidden = started("boredom")
    for step in range(12):
        hidden = made.change(hidden, of_topic(made, step % 4), feedback(made))
    assert not bool(hidden["bored"].any())


def test_repetition_is_liked_until_it_drives_away():
    made, hidden = started("repetition")
    item, rates, leaving = torch.full((NUM,), 3), [], []
    for _ in range(5):
        rates.append(float(liked_rate(made, hidden, item).mean()))
        hidden = made.change(hidden, item, feedback(made))
        leaving.append(float(made.leave_rate(hidden, item, feedback(made)).mean()))
    assert rates[0] < rates[1] < rates[2] < rates[3] == rates[4]
    assert leaving[:3] == [pytest.approx(made.interruption)] * 3
    assert leaving[3:] == [pytest.approx(0.2)] * 2


def test_clickbait_is_liked_now_and_lowers_what_is_liked_later():
    made, hidden = started("clickbait")
    bait, kale = made.bait_N.argmax().expand(NUM), made.bait_N.argmin().expand(NUM)
    item = torch.full((NUM,), 5)
    spoilt = pleased = hidden
    for _ in range(10):
        spoilt = made.change(spoilt, bait, feedback(made))
        pleased = made.change(pleased, kale, feedback(made, False))
    before = liked_rate(made, hidden, item)
    assert bool((liked_rate(made, spoilt, item) < 0.7 * before).all())
    assert bool((liked_rate(made, pleased, item) > 1.3 * before).all())
    plain = made.appeal(hidden, bait[:, None])[:, 0].sigmoid()
    attracted = liked_rate(made, hidden, bait) / torch.sigmoid(torch.tensor(0.0))
    assert bool((attracted > plain).all())


def test_day_ends_with_the_break_and_has_a_taste_for_each_part():
    made, hidden = started("day")
    longest = made.minutes_N.where(made.minutes_N < 6.0, 0.0).argmax().expand(NUM)
    late = hidden | {"minutes_left": torch.full((NUM,), 0.5)}
    assert bool((liked_rate(made, hidden, longest) > 0.0).all())
    assert bool((liked_rate(made, late, longest) == 0.0).all())
    passed = made.change(hidden, longest, feedback(made))["minutes_left"]
    assert torch.allclose(hidden["minutes_left"] - passed, made.minutes_N[longest])
    over = made.change(late, longest, feedback(made))
    assert bool((made.leave_rate(over, longest, feedback(made)) == 1.0).all())
    taste, draws = torch.randn(1, made.num_topics), torch.tensor([[0.1], [0.5], [0.9]])
    parts = made.start(taste.expand(3, -1), draws.expand(3, 4))
    assert len(parts["taste"].unique(dim=0)) == 3
    assert made.see(parts).argmax(1).tolist() == [0, 1, 2]


def test_mood_is_hidden_and_learned_by_asking():
    made, hidden = started("mood", num_items=1000)
    question = made.asks_N.nonzero()[0].expand(NUM)
    assert bool((liked_rate(made, hidden, question) == 0.0).all())
    answers = feedback(made, False)
    answers[:, 1] = True
    named = made.names_NT[question[0]] > 0
    belief = made.change(hidden, question, answers)["belief"]
    assert torch.allclose(belief[:, named].sum(1), torch.full((NUM,), made.truthful))
    assert bool((made.consequence(hidden, question[:, None]) > 0.4).all())
    item = torch.stack(
        [(~made.asks_N & (made.topic_N == m)).nonzero()[0, 0] for m in hidden["mood"]]
    )
    elsewhere = hidden | {"mood": (hidden["mood"] + 1) % made.num_topics}
    assert bool((liked_rate(made, hidden, item) > 2.0 * liked_rate(made, elsewhere, item)).all())


def test_delayed_pays_at_the_end_alone_and_to_the_informed():
    made, hidden = started("delayed")
    pressing = made.press_N.argmax().expand(NUM)
    informed = hidden
    for _ in range(6):
        informed = made.change(informed, pressing, feedback(made))
    bought = [made.rates(each, pressing[:, None])[:, 0, 1] for each in (hidden, informed)]
    assert bool((bought[1] > 4.0 * bought[0]).all())
    made.reset(2_000, make_generator(0))
    rewarded = 0
    for _ in range(6):
        step = made.step(torch.randint(300, (2_000,), generator=make_generator(1)))
        assert bool(step.terminated[step.reward > 0].all())
        rewarded += int((step.reward > 0).sum())
    assert rewarded > 50


def test_herding_grows_with_a_crowd_until_the_market_is_saturated():
    made, hidden = started("herding")
    niche, mass = of_topic(made, 0), of_topic(made, 1)
    niches, masses = [], []
    for _ in range(40):
        niches.append(float(liked_rate(made, hidden, niche).mean()))
        masses.append(float(liked_rate(made, hidden, mass).mean()))
        hidden = made.change(made.change(hidden, niche, feedback(made)), mass, feedback(made))
    assert masses[5] > 3.0 * masses[0]
    assert masses[35] < 0.3 * masses[5]
    assert niches[:11] == sorted(niches[:11], reverse=True)
    assert niches[10] == 0.0


def test_time_budget_is_given_back_by_good_items():
    made, hidden = started("time_budget")
    poor, good = of_topic(made, 0), of_topic(made, made.num_topics - 1)
    spent = [
        (hidden["budget"] - made.change(hidden, item, feedback(made))["budget"])
        / made.minutes_N[item]
        for item in (poor, good)
    ]
    assert torch.allclose(spent[0], torch.ones(NUM))
    assert torch.allclose(spent[1], torch.full((NUM,), 0.2), atol=1e-5)
    empty = hidden | {"budget": torch.zeros(NUM)}
    assert bool((made.leave_rate(empty, good, feedback(made)) == 1.0).all())
    assert bool((made.leave_rate(hidden, good, feedback(made)) < 1.0).all())
