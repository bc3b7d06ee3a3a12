"""The embedded world does what its formulas say, and keeps its secrets."""

from __future__ import annotations

from math import sqrt

import polars as pl
import pytest
import torch

from recomind.candidates import CandidatePool, CandidatesConfig
from recomind.errors import ConfigError, SchemaError
from recomind.policy import RandomPolicy
from recomind.simulation import LANE_ACT, collect_sessions
from recomind.streams import make_generator
from recomind.types import Candidates
from simulators.video_feed.catalogue import HashedCatalogue
from simulators.video_feed.oracles import Oracle, expected_patience, expected_watch
from simulators.video_feed.presets import PRESETS, preset
from simulators.video_feed.world import VideoFeed

NUM_ITEMS = 5_000
WATCH = 0  # column of `watch_10s`


def pool(num_candidates=32):
    config = CandidatesConfig(num_candidates=num_candidates, num_nearest=0, num_fresh=0)
    return CandidatePool(config, NUM_ITEMS)


def world(name="fatigue", **changes):
    return VideoFeed(**({"preset_name": name, "num_items": NUM_ITEMS} | changes))


def play(feed, item_ids, generator=None, seeds=None):
    """Steps of showing `item_ids` [T, B] to the sessions."""
    if seeds is None:
        feed.reset(item_ids.shape[1], generator or make_generator(0))
    else:
        feed.reset_to(seeds)
    return [feed.step(item_id) for item_id in item_ids]


def roll_out(feed, policy, num, seed=0):
    """Reward [B], shown item ids [T, B] with their `valid` [T, B], of whole sessions."""
    state = feed.reset(num, make_generator(seed))
    source, reward, shown, valid = pool(), torch.zeros(num), [], []
    for _ in range(feed.horizon):
        pools = source.candidates(state, feed.streams)
        decision = policy.act(state, pools, feed.streams.uniform(state.step, 4, LANE_ACT))
        step = feed.step(decision.item_id)
        reward += step.reward
        shown.append(decision.item_id)
        valid.append(step.valid)
        state = step.state
    return reward, torch.stack(shown), torch.stack(valid)


def random_items(*shape, seed=0):
    return torch.randint(NUM_ITEMS, shape, generator=make_generator(seed))


def topic_items(feed, topic, num):
    """`num` items of one topic."""
    ids = torch.arange(NUM_ITEMS)
    return ids[feed.items.items(ids).topic == topic][:num]


# Randomness: seeds, streams, common random numbers.


def same_steps(one, two, rows=slice(None)):
    return all(
        torch.equal(a.response.feedback[rows], b.response.feedback)
        and torch.equal(a.response.dwell_s[rows], b.response.dwell_s)
        and torch.equal(a.terminated[rows], b.terminated)
        and torch.equal(a.state.user_features[rows], b.state.user_features)
        for a, b in zip(one, two, strict=True)
    )


def test_seed_decides_the_sessions():
    items = random_items(12, 50)
    first = play(world(), items, make_generator(3))
    assert same_steps(first, play(world(), items, make_generator(3)))
    assert not same_steps(first, play(world(), items, make_generator(4)))


def test_another_world_seed_is_another_world():
    ids = torch.arange(100)
    one, two = world().catalogue.features(ids), world(world_seed=1).catalogue.features(ids)
    assert not torch.equal(one.dense, two.dense)
    assert not torch.equal(one.categorical, two.categorical)


@pytest.mark.parametrize("rows", [[0], [7, 3], list(range(20, 40))])
def test_a_session_does_not_depend_on_its_batch(rows):
    feed, items = world(), random_items(15, 40)
    together = play(feed, items, make_generator(3))
    alone = play(world(), items[:, rows], seeds=feed.streams.seeds[rows])
    assert same_steps(together, alone, rows)


def test_two_policies_meet_the_same_users_with_the_same_luck():
    """The luck of a step is the session's: the better-liked item is watched whenever the other is.

    Both items last long enough for every watch to count, so that taste alone decides.
    """
    feed, num = world("steady", horizon=5), 2_000
    ids = torch.arange(NUM_ITEMS)
    attributes = feed.items.items(ids)
    long = ids[attributes.duration_s > 150]
    state = feed.reset(num, make_generator(0))
    appeal = feed.appeal(
        feed.items.items(long.expand(num, -1)), feed.hidden["taste"], feed.hidden["fatigue"]
    )
    liked, disliked = long[appeal.argmax(1)], long[appeal.argmin(1)]
    one = play(feed, liked[None], make_generator(0))[0]
    two = play(feed, disliked[None], make_generator(0))[0]
    assert torch.equal(one.state.user_id, two.state.user_id)
    assert torch.equal(one.state.user_id, state.user_id)
    engaged_by_worse = two.response.dwell_s > 30
    assert int(engaged_by_worse.sum()) > 20
    assert bool((one.response.dwell_s[engaged_by_worse] > 10).all())
    assert float(one.response.feedback[:, WATCH].float().mean()) > 0.5


# What is visible, and what is not.


def test_no_visible_feature_carries_the_hidden_taste():
    """Users of one cohort and activity share all features and differ in taste."""
    feed = world(warm_events=0)
    state = feed.reset(20_000, make_generator(0))
    users, user_id = feed.users, state.user_id
    features, taste = state.user_features, feed.hidden["taste"]
    cohort = users.cohort(user_id) == 0
    assert len(features[cohort, :-1].unique(dim=0)) == 1
    within = (taste - sqrt(0.5) * users.cohort_taste(user_id))[cohort]
    assert float(within.std()) == pytest.approx(sqrt(0.5), abs=0.02)  # 1 - cohort_share
    activity = features[cohort, -1:]
    correlation = torch.corrcoef(torch.cat([activity, within], 1).T)[0, 1:]
    assert float(correlation.abs().max()) < 4 / sqrt(int(cohort.sum()))


def test_visible_quality_tells_of_the_quality_but_not_all():
    catalogue = HashedCatalogue(100_000, preset("fatigue"))
    items = catalogue.items(torch.arange(100_000))
    dense = catalogue.features(torch.arange(100_000)).dense
    assert torch.equal(dense[:, 0], items.quality_signal)
    correlation = torch.corrcoef(torch.stack([items.quality, items.quality_signal]))[0, 1]
    assert float(correlation) == pytest.approx(0.7, abs=0.01)
    assert float(dense.mean(0).abs().max()) < 0.05
    assert float((dense.std(0) - 1).abs().max()) < 0.1


def test_a_session_begins_with_a_warm_history():
    state = world(warm_events=12, history_length=40).reset(500, make_generator(0))
    assert bool((state.step == 0).all())
    assert not bool(state.in_session.any())
    assert state.history_mask.sum(1).tolist() == [12] * 500
    assert bool(state.history_mask[:, -12:].all())
    assert len(state.history_item_id[:, -12:].unique()) > NUM_ITEMS / 2
    watched = state.history_feedback[:, -12:, WATCH].float().mean()
    assert 0.1 < float(watched) < 0.6


def test_warm_history_can_be_absent_and_is_cut_to_the_history():
    assert not bool(world(warm_events=0).reset(5, make_generator(0)).history_mask.any())
    short = world(warm_events=50, history_length=7).reset(5, make_generator(0))
    assert bool(short.history_mask.all())


def test_a_hundred_million_items_take_no_memory():
    feed = VideoFeed(num_items=10**8)
    ids = torch.tensor([[0, 10**8 - 1], [12_345_678, 99_999_998]])
    features = feed.catalogue.features(ids)
    assert features.dense.shape == (2, 2, 3)
    assert len(features.dense.flatten(0, 1).unique(dim=0)) == 4
    assert torch.equal(features.dense, VideoFeed(num_items=10**9).catalogue.features(ids).dense)
    tensors = [v for v in vars(feed.items).values() if isinstance(v, torch.Tensor)]
    assert tensors == []
    feed.reset(4, make_generator(0))
    assert bool(feed.step(ids.flatten()).valid.all())


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match=r"unknown world preset.*did you mean 'fatigue'"):
        world("fatige")
    with pytest.raises(SchemaError, match="the catalogue is empty"):
        VideoFeed(num_items=0)


# Dynamics.


def test_steady_has_no_carry_over():
    """Whatever was shown first, the later steps are the same to the bit."""
    later = random_items(6, 300)
    runs = []
    for first in (0, 1):
        feed = world("steady")
        items = torch.cat([random_items(1, 300, seed=10 + first), later])
        runs.append(play(feed, items)[1:])
    for one, two in zip(*runs, strict=True):
        assert torch.equal(one.response.feedback, two.response.feedback)
        assert torch.equal(one.response.dwell_s, two.response.dwell_s)
        assert torch.equal(one.terminated, two.terminated)


def test_fatigue_does_carry_over():
    later = random_items(6, 300)
    runs = [
        play(world("fatigue"), torch.cat([random_items(4, 300, seed=10 + first), later]))
        for first in (0, 1)
    ]
    assert any(
        not torch.equal(one.response.left, two.response.left)
        for one, two in zip(runs[0][4:], runs[1][4:], strict=True)
    )


def mean_watch(feed, topic):
    """True mean watch rate of the topic for the users as they are now."""
    num = len(feed.hidden["taste"])
    items = feed.items.items(topic_items(feed, topic, 20).expand(num, -1))
    appeal = feed.appeal(items, feed.hidden["taste"], feed.hidden["fatigue"])
    return float(expected_watch(feed, items, appeal).mean())


def test_a_topic_tires_and_recovers():
    feed = world("fatigue")
    feed.reset(2_000, make_generator(0))
    same, other = topic_items(feed, 3, 6), topic_items(feed, 5, 10)
    rates = [mean_watch(feed, 3)]
    hidden = dict(feed.hidden)
    for item in [*same, *other]:
        hidden["fatigue"] = feed.tire(
            hidden["fatigue"], feed.items.items(item.expand(2_000, 1)).topic
        )
        feed._hidden = hidden  # nobody leaves meanwhile
        rates.append(mean_watch(feed, 3))
    tiring, resting = rates[:7], rates[7:]
    assert tiring == sorted(tiring, reverse=True)
    assert resting == sorted(resting)
    assert tiring[-1] < 0.6 * tiring[0]
    assert tiring[-1] < resting[-1] < tiring[0]


def test_fatigue_shows_in_the_outcomes():
    """A user who keeps seeing one topic watches less than one who sees all of them."""
    feed = world("fatigue", horizon=8)
    one_topic = topic_items(feed, 3, 8)[:, None].expand(8, 4_000)
    varied = torch.stack(
        [topic_items(feed, 3 + 1 * (t < 7) * (t + 1) % 13, 1)[0] for t in range(8)]
    )
    last = []
    for items in (one_topic, varied[:, None].expand(8, 4_000)):
        items = torch.cat([items[:7], one_topic[7:]])
        step = play(feed, items)[-1]
        assert int(step.valid.sum()) > 300
        last.append(step.response.feedback[step.valid, WATCH].float().mean())
    assert float(last[0]) < float(last[1]) - 0.05


def test_patience_runs_down_and_ends_the_session():
    feed = world("fatigue", horizon=60)
    items = topic_items(feed, 3, 60)[:, None].expand(60, 500)
    feed.reset(500, make_generator(0))
    ended = torch.zeros(500, dtype=torch.bool)
    start = feed.hidden["patience"]
    low, high = feed.parameters.patience_start
    assert low <= float(start.min()) < float(start.max()) <= high
    for item_id in items:
        step = feed.step(item_id)
        empty = feed.hidden["patience"] <= 0.0
        assert bool((step.terminated | ~(empty & step.valid)).all())
        ended |= step.terminated
    assert bool(ended.all())
    assert float(empty.float().mean()) > 0.5  # most ran out of patience, the rest were called away


def test_leaving_and_the_horizon_stay_apart():
    feed = world("steady", horizon=10)
    steps = play(feed, random_items(10, 4_000))
    terminated = torch.stack([step.terminated for step in steps])
    truncated = torch.stack([step.truncated for step in steps])
    assert not bool(truncated[:-1].any())
    assert torch.equal(truncated[-1], ~terminated.any(0))
    share, expected = float(truncated[-1].float().mean()), (1 - 0.08) ** 10
    assert abs(share - expected) < 4 * sqrt(expected * (1 - expected) / 4_000)


# Closed forms against frequencies.


def z_scores(successes, probability):
    """Standardised deviation of the mean of `successes` [R] from that of `probability` [R]."""
    variance = (probability * (1 - probability)).sum()
    return float((successes.float().sum() - probability.sum()) / variance.sqrt())


@pytest.mark.parametrize("name", ["fatigue", "steady"])
def test_expected_watch_is_the_frequency(name):
    feed, num = world(name), 40_000
    feed.reset(num, make_generator(1))
    feed._hidden = feed.hidden | {"fatigue": torch.rand(num, 16, generator=make_generator(2))}
    item_id = random_items(num, seed=5)
    items = feed.items.items(item_id[:, None])
    appeal = feed.appeal(items, feed.hidden["taste"], feed.hidden["fatigue"])
    probability = expected_watch(feed, items, appeal)[:, 0].double()
    watched = feed.step(item_id).response.feedback[:, WATCH]
    buckets = probability.argsort().chunk(10)
    chi_square = sum(z_scores(watched[rows], probability[rows]) ** 2 for rows in buckets)
    assert chi_square < 29.6  # .999 quantile of 10 degrees of freedom
    assert float(probability[buckets[0]].mean()) < 0.1
    assert float(probability[buckets[-1]].mean()) > 0.4


def test_expected_patience_is_the_mean_change():
    """Up to the cut of a watch at twice the duration, which the closed form leaves out."""
    feed, num = world("fatigue"), 40_000
    feed.reset(num, make_generator(1))
    feed._hidden = feed.hidden | {"patience": torch.zeros(num)}  # far from the limit
    item_id = random_items(num, seed=5)
    items = feed.items.items(item_id[:, None])
    appeal = feed.appeal(items, feed.hidden["taste"], feed.hidden["fatigue"])
    expected = expected_patience(feed, items, appeal)[:, 0]
    feed.step(item_id)
    change = feed.hidden["patience"]
    for rows in expected.argsort().chunk(8):
        assert float(change[rows].mean()) == pytest.approx(float(expected[rows].mean()), abs=0.05)
    assert float(expected.std()) > 0.1


@pytest.mark.parametrize("name", ["steady", "confounded"])
def test_logging_propensities_are_the_frequencies(name):
    """By what defines them: the mean of 1[slot = k] / propensity is 1 for every slot."""
    feed, num, repeats = world(name), 1_000, 200
    state = feed.reset(num, make_generator(0))
    pools = pool(6).candidates(state, feed.streams)
    pools, state = pools[pools.mask.all(1)], state[pools.mask.all(1)]
    uniforms = torch.rand(repeats, len(state), 4, generator=make_generator(1))
    policy = feed.logging_policy()
    decisions = [policy.act(state, pools, u.clamp(1e-6, 1 - 1e-6)) for u in uniforms]
    slots_RB = torch.stack([d.slot for d in decisions])
    p_RB = torch.stack([d.log_propensity for d in decisions]).double().exp()
    assert all(
        torch.equal(d.item_id, pools.item_id.gather(1, d.slot[:, None])[:, 0]) for d in decisions
    )
    levels = [0.1 / 6, 0.3 / 6, 0.7 + 0.3 / 6, 0.9 + 0.1 / 6]
    assert torch.allclose(
        p_RB.float().mul(1e4).round().unique() / 1e4, torch.tensor(levels), atol=1e-4
    )
    best = p_RB > 0.5
    for kind in (best, ~best):  # of each session one best slot and five others
        weights_B = (kind / p_RB).mean(0)
        error = float(weights_B.std()) / sqrt(len(state))
        assert abs(float(weights_B.mean()) - (1 if kind is best else 5)) < 4 * error
    assert len(slots_RB[:, 0].unique()) > 1


def taste_of_shown(name):
    """Mean hidden own taste, beyond the cohort's, for the topics that the logger showed."""
    feed = world(name, horizon=3)
    state = feed.reset(4_000, make_generator(0))
    pools = pool().candidates(state, feed.streams)
    uniforms = feed.streams.uniform(state.step, 4, LANE_ACT)
    shown = feed.logging_policy().act(state, pools, uniforms).item_id
    own = feed.hidden["taste"] - sqrt(0.5) * feed.users.cohort_taste(state.user_id)
    return float(own.gather(1, feed.items.items(shown[:, None]).topic).mean())


def test_only_the_confounded_logger_knows_more_than_the_state():
    assert abs(taste_of_shown("fatigue")) < 0.05
    assert abs(taste_of_shown("steady")) < 0.05
    assert taste_of_shown("confounded") > 0.5


# Reference policies.


def lift(feed, better, worse, num=600):
    """Mean and standard error of the paired difference of session rewards."""
    difference = roll_out(feed, better, num)[0] - roll_out(feed, worse, num)[0]
    return float(difference.mean()), float(difference.std()) / sqrt(num)


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_myopic_oracle_beats_logging_which_beats_random(name):
    feed = world(name)
    oracle, logging = Oracle(feed), feed.logging_policy()
    for better, worse in ((oracle, logging), (logging, RandomPolicy())):
        mean, error = lift(feed, better, worse)
        assert mean > 3 * error


def test_looking_ahead_pays_where_there_is_something_ahead():
    feed = world("fatigue")
    ahead = Oracle(feed, patience_price=0.5, fatigue_price=0.5)
    mean, error = lift(feed, ahead, Oracle(feed))
    assert mean > 3 * error


def test_the_oracle_reads_the_users_it_is_asked_about():
    """Half of the sessions, in another order, get what they get among all."""
    feed = world("fatigue")
    state = feed.reset(40, make_generator(0))
    pools = pool().candidates(state, feed.streams)
    oracle, uniforms = Oracle(feed, patience_price=0.5), torch.zeros(40, 4)
    rows = torch.arange(39, 0, -2)
    some = oracle.act(state[rows], pools[rows], uniforms[rows])
    assert torch.equal(oracle.act(state, pools, uniforms).slot[rows], some.slot)
    assert len(some.slot.unique()) > 5


def test_the_oracle_never_takes_padding():
    feed = world("steady")
    state = feed.reset(10, make_generator(0))
    pools = pool().candidates(state, feed.streams)
    best = Oracle(feed).act(state, pools, torch.zeros(10, 4)).slot
    masked = Candidates(
        item_id=pools.item_id,
        mask=pools.mask.scatter(1, best[:, None], False),
        log_propensity=pools.log_propensity,
        batch_size=[10],
    )
    assert not bool((Oracle(feed).act(state, masked, torch.zeros(10, 4)).slot == best).any())


# Days: the preset `drift`.


def correlation(one, two):
    return float(torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1])


def test_taste_and_items_turn_by_so_much_a_day_and_what_is_seen_of_items_does_not():
    feed = world("drift")
    p, ids = feed.parameters, torch.arange(NUM_ITEMS)
    first, last = (feed.items.items(ids, torch.tensor(day)) for day in (0, p.num_days - 1))
    turned = float(torch.tensor(p.turn_per_day * (p.num_days - 1)).cos())
    assert correlation(first.quality, last.quality) == pytest.approx(turned, abs=0.05)
    assert float(last.quality.std()) == pytest.approx(1.0, abs=0.05)
    assert torch.equal(first.quality_signal, last.quality_signal)
    assert torch.equal(first.quality, feed.items.items(ids).quality)
    users = torch.arange(2_000)
    day, cohort = feed.users.day(users), feed.users.cohort(users)
    taste = feed.users.cohort_taste(users)
    met = [
        [taste[(day == when) & (cohort == c)][0] for c in range(p.num_cohorts)]
        for when in (0, p.num_days - 1)
    ]
    assert correlation(*map(torch.stack, met)) == pytest.approx(turned, abs=4 / sqrt(16 * 8))
    assert torch.equal(day.unique(), torch.arange(p.num_days))


def test_other_presets_have_no_days():
    feed = world("fatigue")
    feed.reset(5, make_generator(0))
    assert feed.begins_ms() is None
    assert int(feed.users.day(torch.arange(1_000)).max()) == 0


def test_logs_of_a_world_with_days_are_dated_and_in_order():
    feed = world("drift", horizon=4, history_length=6)
    frame = collect_sessions(
        feed,
        feed.logging_policy(),
        pool(8),
        num_sessions=300,
        generator=make_generator(0),
        user_feature_names=feed.user_feature_names,
    )
    begun = frame.filter(pl.col("position") == 0)
    assert begun["session_id"].to_list() == list(range(300))
    assert begun["time_ms"].is_sorted()
    day = begun["time_ms"] // 86_400_000 - 20_454  # since 2026-01-01
    assert day.to_list() == feed.users.day(torch.tensor(begun["user_id"].to_list())).tolist()
    splits = begun["split"].rle().struct.field("value")  # one after another, by date
    assert splits.to_list() == ["train", "calibration", "test"]
    before = frame.filter(pl.col("position") < 0).join(begun, on="session_id")
    assert before.filter(pl.col("time_ms") > pl.col("time_ms_right")).is_empty()
