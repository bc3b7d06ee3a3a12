"""Both algorithms act, and take their maximum, inside the support by the logs' density."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from recomind.artifacts import Manifest
from recomind.candidates import ExplorationKind
from recomind.errors import ArtifactError, ConfigError
from recomind.policy import LoggedDensity, PolicyConfig, QNetwork, support_mask
from recomind.streams import SessionStreams
from recomind.training.actor_critic.algorithm import SessionActorCriticConfig
from recomind.training.actor_critic.critic import encoded, scored
from recomind.training.actor_critic.rollout import OnPolicyRows
from recomind.training.dqn.algorithm import SessionDQNConfig
from recomind.training.dqn.loss import td_loss, td_target
from recomind.training.problem import SessionProblem
from recomind.training.target import TargetCopy
from recomind.training.trainer import _check_inputs
from recomind.types import Candidates, SessionState, Transition
from tests.simulation.tiny import WEIGHTS, tiny_pool, tiny_ranker, tiny_world
from tests.training.actor_critic.test_algorithm import settings as softly
from tests.training.runs import built
from tests.training.tiny import settings

RHO, TAU, SUBSET = 0.6, 0.3, 16
SEEN: list[tuple[SessionState, Candidates]] = []  # what was asked of the pool


class WatchedPool:
    """The pool, which keeps what it gave."""

    def __init__(self) -> None:
        self._pool = tiny_pool()

    def candidates(self, state: SessionState, streams: SessionStreams) -> Candidates:
        pool = self._pool.candidates(state, streams)
        SEEN.append((state.clone(), pool))
        return pool


def network() -> QNetwork:
    """With a density that nothing was fitted to, but which differs from item to item."""
    ranker = tiny_ranker(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        density = LoggedDensity.of(ranker)
        for tower in (density.query, density.key):
            torch.nn.init.normal_(cast(Tensor, tower[-1].weight), std=1.0)
        density.standardise(torch.randn(64, density.state_width + density.item_width))
        config = PolicyConfig(support_ratio=RHO, support_density=TAU)
        made = QNetwork(ranker, WEIGHTS, config, density=density)
        torch.nn.init.normal_(made.residual.weight)
    return made


PROBLEM = SessionProblem(environment=tiny_world, candidates=WatchedPool, network=network)
CONFIGS = {"dqn": SessionDQNConfig, "actor_critic": SessionActorCriticConfig}


def build(algorithm: str) -> Any:
    changes: dict[str, Any] = {"support_ratio": RHO, "num_sessions": 24, "num_env_steps": 600}
    training = softly(**changes)
    if algorithm == "dqn":
        changes |= {"exploration": ExplorationKind.uniform, "epsilon_start": 1.0}
        training = settings(**changes, epsilon_end=1.0, target_subset_size=SUBSET)
    return built(CONFIGS[algorithm]().session(problem=PROBLEM, settings=training, seed=1))


def asked(made: QNetwork, state: SessionState, pool: Candidates) -> tuple[Tensor, Tensor, Tensor]:
    """Q, allowed by both halves, and allowed by the utility alone, each [B, K]."""
    with torch.no_grad():
        encoding = made.encode_state(state)
        q, utility = made.score_encoded(encoding, pool.item_id)
        density = made.log_density(encoding, pool.item_id)
    both = support_mask(utility, pool.mask, RHO, density, TAU)
    return q, both, support_mask(utility, pool.mask, RHO)


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("algorithm", list(CONFIGS))
def test_rollouts_stay_inside(algorithm: str) -> None:
    with build(algorithm) as running:
        SEEN.clear()
        columns = running.runner.simulate().columns
        made = running.runner.network
        assert len(SEEN) == len(columns["item_id"])
        bound = 0
        for step, (state, pool) in enumerate(SEEN):
            _, allowed, by_utility = asked(made, state, pool)
            bound += int((by_utility & ~allowed).sum())
            shown = pool.item_id == columns["item_id"][step][:, None]
            assert bool((shown & allowed).any(1).all())
            kept = columns["pool_item_id"][step].masked_fill(~columns["pool_mask"][step], -1)
            inside = pool.item_id.masked_fill(~allowed, -2)
            assert bool(((kept[:, :, None] == inside[:, None, :]).any(2) | (kept < 0)).all())
            if algorithm == "actor_critic":  # its probabilities are over the whole support
                assert torch.equal(columns["pool_mask"][step], allowed)
        assert bound > 0  # the density does exclude what the utility allows
        running.train()
        assert running.num_updates > 0


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("algorithm", list(CONFIGS))
def test_rows_hold_the_utilities_that_the_network_acted_on(algorithm: str) -> None:
    with build(algorithm) as running:
        SEEN.clear()
        columns, made = running.runner.simulate().columns, running.runner.network
        for step, (state, _) in enumerate(SEEN):
            for items, held in (("pool_item_id", "pool_utility"), ("item_id", "utility")):
                item_id = columns[items][step].long().reshape(len(state.step), -1)
                with torch.no_grad():
                    utility = made.q_values(state, item_id)[1]
                torch.testing.assert_close(columns[held][step].reshape(item_id.shape), utility)


@pytest.mark.usefixtures("ray_cluster")
def test_an_update_does_not_ask_the_frozen_ranker_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with build("dqn") as running:
        running.train()
        made = running.runner.network
        with torch.no_grad():  # away from step 0, where the trunk is worth nothing
            made.residual.weight.normal_(std=0.1)
        (replay,) = running._replays
        batch = replay.sample(64, torch.Generator().manual_seed(0))
        target = TargetCopy(made)
        plain = batch.clone()
        plain.utility = plain.next_utility = None
        asked_again, _ = td_loss(made, target, plain, support_ratio=RHO)
        monkeypatch.setattr(made.frozen, "score", _refuses)
        monkeypatch.setattr(made.frozen, "encode_state", _refuses)
        loss, _ = td_loss(made, target, batch, support_ratio=RHO)
        torch.testing.assert_close(loss, asked_again)
        loss.backward()
        assert float(made.residual.weight.grad.abs().sum()) > 0.0
        with pytest.raises(AssertionError, match="asked again"):
            td_loss(made, target, plain, support_ratio=RHO)


@pytest.mark.usefixtures("ray_cluster")
def test_the_actor_critic_does_not_ask_the_frozen_ranker_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with build("actor_critic") as running:
        running.train()
        made = running.runner.network
        with torch.no_grad():
            made.residual.weight.normal_(std=0.1)
        rows = OnPolicyRows()
        rows.add(running.runner.simulate())
        batch = rows.batch(torch.zeros(rows.shape()), 0.9, 0.9)
        encoding, q, _ = scored(made, batch.state, batch.item_id)
        monkeypatch.setattr(made.frozen, "score", _refuses)
        monkeypatch.setattr(made.frozen, "encode_state", _refuses)
        found = scored(made, batch.state, batch.item_id, batch.utility)
        torch.testing.assert_close(found, (encoding, q, batch.utility))
        torch.testing.assert_close(encoded(made, batch.state), encoding)


@pytest.mark.usefixtures("ray_cluster")
def test_rows_of_an_earlier_version_are_refused() -> None:
    with build("actor_critic") as running:
        rows = OnPolicyRows()
        rows.add(running.runner.simulate())
    theirs = {k: v for k, v in rows.state_dict().items() if k != "pool_utility"}
    with pytest.raises(ConfigError, match=r"earlier version.*without pool_utility.*delete"):
        OnPolicyRows().load_state_dict(theirs)


def _refuses(*_: Any) -> None:
    raise AssertionError("asked again")


@pytest.mark.usefixtures("ray_cluster")
def test_the_maximum_at_the_next_state_is_over_the_support() -> None:
    with build("dqn") as running:
        SEEN.clear()
        columns, made = running.runner.simulate().columns, running.runner.network
        state, pool = SEEN[-1]
        kept = Candidates(
            item_id=columns["pool_item_id"][-1].long(),
            mask=columns["pool_mask"][-1],
            log_propensity=torch.zeros(columns["pool_mask"][-1].shape),
            batch_size=[len(state.step)],
        )
        q, allowed, by_utility = asked(made, state, pool)
        assert int(allowed.sum(1).max()) <= SUBSET
        zero = torch.zeros(len(state.step))
        transition = Transition(
            state=state,
            item_id=pool.item_id[:, 0],
            log_propensity=zero,
            reward=zero,
            discount=zero + 1.0,
            next_state=state,
            next_candidates=kept,
            batch_size=[len(zero)],
        )
        target = td_target(made, made, transition, support_ratio=RHO)
        torch.testing.assert_close(target, q.masked_fill(~allowed, -torch.inf).max(1).values)
        loose = q.masked_fill(~by_utility, -torch.inf).max(1).values
        assert bool((loose > target + 1e-3).any())


def test_checkpoints_of_another_support_are_refused_both_ways() -> None:
    with_it = {"ranker": "a", "policy.support_density": "0.05"}
    for theirs, ours in ((with_it, {"ranker": "a"}), ({"ranker": "a"}, with_it)):
        with pytest.raises(ArtifactError, match=r"policy\.support_density"):
            _check_inputs(Manifest(kind="training_checkpoint", inputs=theirs), ours)
    _check_inputs(Manifest(kind="training_checkpoint", inputs=with_it), with_it)
