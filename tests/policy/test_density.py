"""The density of logs whose logger is known: its order, its edges, and what must not matter."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
import torch
from torch import Tensor

from recomind.adapters import StateBatch
from recomind.artifacts import Manifest
from recomind.candidates import (
    CandidatePool,
    CandidatesConfig,
    SoftmaxExploration,
    UniformExploration,
)
from recomind.data import SessionDataset, write_sessions
from recomind.errors import ArtifactError, ConfigError
from recomind.evaluation.arms import Arm, InSupport
from recomind.evaluation.outside import outside_shares
from recomind.policy import (
    LoggedDensity,
    PolicyConfig,
    QNetwork,
    QPolicy,
    RankerPolicy,
    RunningQ,
    SupportedValues,
    check_propensities,
    decide,
    fit_density,
    load_density,
    support_mask,
)
from recomind.policy.density_fitting import known_rows
from recomind.ranker import CompletedRanker, ExternalConfig, ExternalRanker
from recomind.simulation import collect_sessions
from recomind.streams import draw_seeds, make_generator
from recomind.types import Candidates, Catalogue, Decision, SessionState
from simulators.video_feed.world import TASKS
from tests.simulation.tiny import (
    LENGTH,
    NUM_ITEMS,
    WEIGHTS,
    tiny_catalogue,
    tiny_pool,
    tiny_ranker,
    tiny_world,
)

NUM_SESSIONS, TEMPERATURE, NEVER = 1500, 0.3, 3
WORLD = tiny_world()
TOPIC_N = WORLD.items.items(torch.arange(NUM_ITEMS)).topic.flatten()


def score(state: SessionState, item_id: Tensor) -> Tensor:
    """What the logger goes by, [B, K]; a state shows it through the user's features."""
    items = WORLD.items.items(item_id)
    taste = WORLD.users.cohort_taste(state.user_id).gather(1, items.topic)
    return taste + 0.5 * items.quality_signal


class SoftmaxLogger:
    """Draws from a softmax; one topic it never shows."""

    def act(self, state: SessionState, candidates: Candidates, uniforms: Tensor) -> Decision:
        allowed = candidates.mask & (TOPIC_N[candidates.item_id] != NEVER)
        scores = score(state, candidates.item_id)
        return decide(scores, allowed, candidates, uniforms, SoftmaxExploration(TEMPERATURE))


@cache
def frame(seed: int = 0) -> pl.DataFrame:
    return collect_sessions(
        tiny_world(),
        SoftmaxLogger(),
        CandidatePool(CandidatesConfig(num_candidates=12, num_nearest=0, num_fresh=0), NUM_ITEMS),
        num_sessions=NUM_SESSIONS,
        generator=make_generator(seed),
        user_feature_names=WORLD.user_feature_names,
    )


def loaded(*frames: pl.DataFrame) -> SessionDataset:
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / str(index) for index in range(len(frames))]
        for folder, each in zip(folders, frames, strict=True):
            manifest = Manifest(kind="sessions")
            write_sessions(folder, each, tiny_catalogue(), tasks=TASKS, manifest=manifest)
        return SessionDataset.load(folders, LENGTH)


@cache
def dataset() -> SessionDataset:
    return loaded(frame())


@cache
def fitted() -> tuple[LoggedDensity, dict[str, float]]:
    return fit_density(tiny_ranker(0), dataset(), seed=0)


def network(tau: float, **changes) -> QNetwork:
    config = PolicyConfig(support_ratio=0.0, support_density=tau, **changes)
    made = QNetwork(tiny_ranker(0), WEIGHTS, config, density=fitted()[0] if tau else None)
    torch.nn.init.normal_(made.residual.weight, generator=make_generator(1))
    return made


def held_out() -> tuple[SessionState, Tensor]:
    """States of users that nothing was fitted to, and all items."""
    state = dataset().state(dataset().rows(holdout=True)[::9][:120])
    return state, torch.arange(NUM_ITEMS).expand(len(state.step), -1)


def log_density(state: SessionState, item_id: Tensor) -> Tensor:
    made = network(0.1)
    found = made.log_density(made.encode_state(state), item_id)
    assert found is not None
    return found


def spearman(one_BK: Tensor, two_BK: Tensor) -> Tensor:
    """[B] rank correlation."""
    ranks = [x.argsort(1).argsort(1).float() for x in (one_BK, two_BK)]
    one, two = (r - r.mean(1, keepdim=True) for r in ranks)
    return (one * two).sum(1) / (one.norm(dim=1) * two.norm(dim=1))


def test_it_recovers_the_order_of_a_softmax_logger_for_new_users():
    state, item_id = held_out()
    shown = item_id[:, TOPIC_N != NEVER]
    agreement = spearman(log_density(state, shown), score(state, shown))
    assert float(agreement.mean()) > 0.6
    # Another user's taste orders the items otherwise: it is the state that tells.
    other = spearman(log_density(state.flip(0), shown), score(state, shown))
    assert float(agreement.mean()) > float(other.mean()) + 0.1
    assert fitted()[1]["shown_above_uniform"] > 0.65


def test_what_no_logger_showed_is_not_allowed():
    assert not bool((TOPIC_N[dataset().item_id(dataset().rows())] == NEVER).any())
    state, item_id = held_out()
    values = SupportedValues(network(0.05))(state, item_id)
    with torch.no_grad():
        utility = network(0.05).q_values(state, item_id)[1]
    allowed = values.isfinite() & (utility < utility.max(1, keepdim=True).values)
    never = TOPIC_N == NEVER
    assert float(allowed[:, never].float().mean()) < 0.02
    assert float(allowed[:, ~never].float().mean()) > 0.2


def test_acting_keeps_to_what_the_mask_says():
    world, made = tiny_world(), network(0.3)
    state = world.reset(200, make_generator(4))
    pool = tiny_pool().candidates(state, world.streams)
    uniforms = torch.rand(200, 4, generator=make_generator(5)).clamp(1e-6, 1 - 1e-6)
    with torch.no_grad():
        encoding = made.encode_state(state)
        q, utility = made.score_encoded(encoding, pool.item_id)
        density = made.log_density(encoding, pool.item_id)
    allowed = support_mask(utility, pool.mask, 0.0, density, 0.3)
    slot = QPolicy(made).act(state, pool, uniforms).slot
    assert torch.equal(slot, q.masked_fill(~allowed, -torch.inf).argmax(1))
    free = QPolicy(network(0.0)).act(state, pool, uniforms).slot
    assert not bool(allowed.gather(1, free[:, None]).all())  # the constraint binds here


@pytest.mark.parametrize("support_ratio", [0.0, 0.8])
def test_at_step_0_the_policy_is_the_ranker_inside_the_density(support_ratio):
    config = PolicyConfig(support_ratio=support_ratio, support_density=0.3)
    made = QNetwork(tiny_ranker(0), WEIGHTS, config, density=fitted()[0])
    world = tiny_world()
    state = world.reset(200, make_generator(4))
    pool, uniforms = tiny_pool().candidates(state, world.streams), torch.full((200, 4), 0.5)
    policy = QPolicy(made).act(state, pool, uniforms).item_id
    assert torch.equal(policy, InSupport(made).act(state, pool, uniforms).item_id)
    ranker = RankerPolicy([tiny_ranker(0)], WEIGHTS).act(state, pool, uniforms).item_id
    assert not torch.equal(policy, ranker)  # the density binds here


def test_what_the_density_leaves_stays_the_greedy_choice_when_exploring_beyond_it():
    """Also where it is far below the best utility of the pool."""
    config = PolicyConfig(support_ratio=0.95, support_density=0.3)
    made = QNetwork(tiny_ranker(0), WEIGHTS, config, density=fitted()[0])
    world = tiny_world()
    state = world.reset(200, make_generator(4))
    pool, uniforms = tiny_pool().candidates(state, world.streams), torch.full((200, 4), 0.5)
    greedy = QPolicy(made).act(state, pool, uniforms).slot
    beyond = QPolicy(made, explores_beyond_logs=True)
    assert torch.equal(beyond.act(state, pool, uniforms).slot, greedy)
    with torch.no_grad():
        utility = made.q_values(state, pool.item_id)[1]
    by_ranker = support_mask(utility, pool.mask, 0.95).gather(1, greedy[:, None])
    assert not bool(by_ranker.all())


def test_exploring_beyond_the_logs_leaves_the_first_choice_and_has_exact_propensities():
    world, made, epsilon = tiny_world(), network(0.3), 0.4
    state = world.reset(400, make_generator(4))
    pool = tiny_pool().candidates(state, world.streams)
    uniforms = torch.rand(400, 4, generator=make_generator(5)).clamp(1e-6, 1 - 1e-6)
    held, beyond = (
        QPolicy(made, UniformExploration(epsilon), explores_beyond_logs=each)
        for each in (False, True)
    )
    first = QPolicy(made).act(state, pool, uniforms).slot
    exploits = uniforms[:, 0] >= epsilon
    choice = beyond.act(state, pool, uniforms)
    assert torch.equal(choice.slot[exploits], first[exploits])
    with torch.no_grad():
        allowed = held.scored(state, pool)[1]
    inside = allowed.gather(1, choice.slot[:, None])[:, 0]
    assert bool(inside[exploits].all())
    assert float(inside[~exploits].float().mean()) < 0.7  # a draw from the pool, not the support
    assert bool(allowed.gather(1, held.act(state, pool, uniforms).slot[:, None]).all())
    by_chance = epsilon / pool.mask.sum(1)
    expected = torch.where(choice.slot == first, 1 - epsilon + by_chance, by_chance)
    torch.testing.assert_close(choice.log_propensity.exp(), expected)


def test_what_an_index_puts_into_every_pool_is_no_denser_for_that():
    """A logger that draws uniformly from pools in which ten items always are."""
    certain, generator = torch.arange(10), make_generator(3)
    events = frame().height
    random = torch.randint(10, NUM_ITEMS, (events,), generator=generator)
    often = certain[torch.randint(10, (events,), generator=generator)]
    item_id = torch.where(torch.rand(events, generator=generator) < 0.5, often, random)
    uniform = frame().with_columns(
        item_id=pl.Series(item_id.numpy()),
        propensity=pl.when(pl.col("position") >= 0).then(1.0 / 20),
    )
    density, _ = fit_density(tiny_ranker(0), loaded(uniform), seed=0)
    made = QNetwork(tiny_ranker(0), WEIGHTS, PolicyConfig(support_density=0.1), density=density)
    state, items = held_out()
    found = made.log_density(made.encode_state(state), items)
    assert found is not None
    # Shown 29 times as often each; at most twice as dense, as the formula says, but for noise.
    ratio = (found[:, :10].mean(1) - found[:, 10:].mean(1)).exp()
    assert float(ratio.mean()) < 3.0


def test_several_loggers_are_one_mixture():
    """Of two rounds, one of which no other shows the topic: it is no longer never shown."""
    shown = frame(1).with_columns(
        item_id=pl.when(pl.col("position") >= 0)
        .then(
            pl.Series((TOPIC_N == NEVER).nonzero()[:, 0].numpy()).gather(
                pl.Series([i % int((TOPIC_N == NEVER).sum()) for i in range(frame(1).height)])
            )
        )
        .otherwise(pl.col("item_id"))
    )
    both, _ = fit_density(tiny_ranker(0), loaded(frame(), shown), seed=0)
    state, item_id = held_out()
    never, means = TOPIC_N == NEVER, []
    for density in (fitted()[0], both):
        config = PolicyConfig(support_density=0.1)
        made = QNetwork(tiny_ranker(0), WEIGHTS, config, density=density)
        found = made.log_density(made.encode_state(state), item_id)
        assert found is not None
        means.append(float(found[:, never].mean() - found[:, ~never].mean()))
    assert means[0] < -1.0 < 0.0 < means[1]


def unknown(share: float, seed: int = 0) -> pl.DataFrame:
    """The log, with a share of its propensities gone."""
    gone = torch.rand(frame().height, generator=make_generator(seed)) < share
    gone = pl.Series(gone.numpy())
    return frame().with_columns(propensity=pl.when(~gone).then(pl.col("propensity")))


def test_a_log_without_propensities_is_refused_in_one_sentence():
    for share in (1.0, 0.5):  # of half a log, it is chance alone that may be known
        with pytest.raises(ConfigError) as caught:
            check_propensities(loaded(unknown(share)))
        assert caught.value.what == "policy.support_density needs logs with propensities"
        assert str(caught.value.got).startswith("0 of ")
        assert "policy.support_density=0" in caught.value.mend
    with pytest.raises(ConfigError, match="needs logs with propensities"):
        fit_density(tiny_ranker(0), loaded(unknown(1.0)), seed=0)


def test_rounds_with_unknown_propensities_do_not_count():
    both = loaded(unknown(1.0), frame(1))
    rows = known_rows(both, "train")
    assert set(both.round_index(rows).tolist()) == {1}
    few = loaded(unknown(0.02))
    share = len(known_rows(few, "train")) / few.num_rows("train", holdout=False)
    assert 0.95 < share < 1.0


def test_a_stored_density_is_the_same_and_another_shape_is_refused(tmp_path):
    density, metrics = fitted()
    density.save(tmp_path / "density", Manifest(kind="", metrics=metrics))
    again = load_density(tmp_path / "density")
    state, item_id = held_out()
    made = [
        QNetwork(tiny_ranker(0), WEIGHTS, PolicyConfig(support_density=0.1), density=each)
        for each in (density, again)
    ]
    one, two = (cast(Tensor, n.log_density(n.encode_state(state), item_id)) for n in made)
    assert torch.equal(one, two)
    assert not any(p.requires_grad for p in again.parameters())
    LoggedDensity(3, 4).save(tmp_path / "other", Manifest(kind=""))
    (tmp_path / "other" / "density.safetensors").unlink()
    with pytest.raises(ArtifactError):
        load_density(tmp_path / "other")


def test_a_network_without_a_density_says_what_it_needs():
    with pytest.raises(ConfigError, match="density of the logs on a ranker of ours; got: no"):
        QNetwork(tiny_ranker(0), WEIGHTS, PolicyConfig(support_density=0.1))


def test_the_table_of_keys_follows_the_weights_and_equals_no_table():
    made, (state, item_id) = network(0.1), held_out()
    with_table = log_density(state, item_id)
    own, table = made.frozen, made.frozen.table  # type: ignore[attr-defined]
    assert table is not None
    encoding = made.encode_state(state)
    own.table = None  # type: ignore[attr-defined]
    without = made.log_density(encoding, item_id)
    own.table = table  # type: ignore[attr-defined]
    torch.testing.assert_close(with_table, without, atol=1e-5, rtol=1e-5)


class Even:
    """An external model to which all items are alike."""

    cost = "none"

    def __init__(self, num_tasks: int) -> None:
        self._num_tasks = num_tasks

    def encode(self, batch: StateBatch) -> Tensor:
        return batch.state.step

    def score(
        self, encoding: Any, item_id: Tensor, catalogue: Catalogue, snapshot: Tensor | None
    ) -> Tensor:
        return torch.zeros(*item_id.shape, self._num_tasks)


@pytest.mark.parametrize("num_tasks", [1, len(TASKS)])
def test_an_external_ranker_has_the_density_of_the_one_that_completes_it(num_tasks):
    config = ExternalConfig(tasks=list(TASKS[:num_tasks]))
    external = ExternalRanker(Even(num_tasks), config, tiny_catalogue())
    settings = PolicyConfig(support_density=0.1)
    completed = CompletedRanker(external, tiny_ranker(0))
    made = QNetwork(completed, WEIGHTS, settings, density=fitted()[0])
    state, item_id = held_out()
    for acting in (made, RunningQ(made)):
        with torch.no_grad():
            found = acting.log_density(acting.encode_state(state), item_id)
        torch.testing.assert_close(found, log_density(state, item_id), atol=1e-4, rtol=1e-4)
    with pytest.raises(ConfigError, match="on a ranker of ours; got: ExternalRanker"):
        QNetwork(external, {"watch_10s": 1.0}, settings, tiny_ranker(0), fitted()[0])


def test_the_share_of_steps_outside_the_logs():
    config = PolicyConfig(support_ratio=0.0, support_density=0.3)
    made = QNetwork(tiny_ranker(0), WEIGHTS, config, density=fitted()[0])
    torch.nn.init.normal_(made.residual.weight, generator=make_generator(1))
    policies = {
        "ranker": RankerPolicy([tiny_ranker(0)], WEIGHTS),
        "ranker_in_support": InSupport(made),
        "policy": QPolicy(made),
    }
    pool, seeds = tiny_pool(), draw_seeds(40, make_generator(3))
    arms = {name: Arm(policy=each, candidates=pool) for name, each in policies.items()}
    shares = outside_shares(tiny_world(), arms, made, seeds)
    assert shares["policy"] == shares["ranker_in_support"] == 0.0
    assert 0.1 < shares["ranker"] <= 1.0
    free = QNetwork(tiny_ranker(0), WEIGHTS, PolicyConfig(support_ratio=0.0))
    assert outside_shares(tiny_world(), arms, free, seeds) == {}
