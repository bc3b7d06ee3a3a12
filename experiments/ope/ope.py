"""What is known of policies from logs alone, against what the embedded world says they are worth.

`python -m experiments.ope.ope`: six stochastic policies and one that the logs never follow, three
sizes of log, every estimator with the settings that a user gets. Each part, the truth or a size,
takes less than a minute on one core, and one that stands in `runs.jsonl` is not made again.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from scipy.stats import kendalltau
from torch import Tensor

from experiments.records import Records
from experiments.result import figure, write_result
from recomind.candidates import CandidatePool, CandidatesConfig, SoftmaxExploration, make_pool
from recomind.evaluation.ope import ESTIMATORS, LoggedSessions, Target, estimate_all
from recomind.evaluation.ope.fqe import fitted_q
from recomind.evaluation.rollout import rollout
from recomind.policy import ScoredPolicy
from recomind.streams import LANE_ACT, draw_seeds, make_generator
from recomind.types import Candidates, Catalogue, SessionState
from simulators.video_feed.world import VideoFeed

COMMAND = "experiments/ope/run"
SEED, HORIZON, POOL, TRUTH_SESSIONS = 0, 5, 6, 20_000
BLOCKS = {500: 20, 2_000: 10, 8_000: 4}  # logged sessions -> how many such logs
NEVER = 0  # a topic that the logging policy does not show
# Weights of (quality, duration, age); softmax over a pool. None of them shows the topic `NEVER`.
LOGGING = (0.4, 0.2, 0.0)
POLICIES = {
    "uniform": (0.0, 0.0, 0.0),
    "quality": (1.0, 0.0, 0.0),
    "poor": (-0.4, 0.0, 0.0),
    "short": (0.2, -0.5, 0.0),
    "fresh": (0.3, 0.0, -0.5),
    "long_and_good": (0.8, 0.6, 0.0),
}
UNSEEN = "unseen"  # shows the topic wherever it can
_SURE = 30.0
RECORDS = Records(Path(__file__).parent, ("part", "seed"))
TRUTH = "truth"


class ByContent(ScoredPolicy):
    """Softmax over a linear function of an item's content."""

    def __init__(self, catalogue: Catalogue, weights: tuple[float, ...], of_topic: float) -> None:
        super().__init__(SoftmaxExploration(1.0))
        self.catalogue, self.weights_F = catalogue, torch.tensor(weights)
        self.of_topic = of_topic  # added to items of the topic

    def scored(self, state: SessionState, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Scores [B, K]; everything may be chosen."""
        return self.scores(candidates.item_id), candidates.mask

    def scores(self, item_id: Tensor) -> Tensor:
        """[..., K]."""
        features = self.catalogue.features(item_id)
        return features.dense @ self.weights_F + self.of_topic * self.is_topic(item_id)

    def is_topic(self, item_id: Tensor) -> Tensor:
        """[..., K] bool."""
        return self.catalogue.features(item_id).categorical[..., 0] == NEVER


@dataclass(kw_only=True)
class Log:
    """Sessions of the logging policy, with the pools that it chose from."""

    sessions: LoggedSessions
    pools: Tensor  # [S, T, K] item ids
    filled: Tensor  # [S, T, K] bool, False where a slot of the pool is empty
    user: Tensor  # [S, U]

    def part(self, rows: Tensor) -> Log:
        """Some of the sessions."""
        names = ("reward", "pscore", "slot", "mask", "state_id", "user_id")
        columns: dict[str, Any] = {name: getattr(self.sessions, name)[rows] for name in names}
        return Log(
            sessions=replace(self.sessions, **columns),
            pools=self.pools[rows],
            filled=self.filled[rows],
            user=self.user[rows],
        )


def collect(world: VideoFeed, pool: CandidatePool, policy: ByContent, seeds: Tensor) -> Log:
    """Play the logging policy and keep pools and propensities."""
    state = world.reset_to(seeds)
    user, alive = state.user_features, torch.ones(len(seeds), dtype=torch.bool)
    names = ("reward", "pscore", "slot", "mask", "pool", "filled")
    columns: dict[str, list[Tensor]] = {name: [] for name in names}
    for _ in range(HORIZON):
        candidates = pool.candidates(state, world.streams)
        uniforms = world.streams.uniform(state.step, 4, LANE_ACT)
        decision = policy.act(state, candidates, uniforms)
        step = world.step(decision.item_id)
        found = (step.reward * alive, decision.log_propensity.exp(), decision.slot, alive)
        for name, column in zip(
            columns, (*found, candidates.item_id, candidates.mask), strict=True
        ):
            columns[name].append(column)
        alive = alive & ~(step.terminated | step.truncated)
        state = step.state
    stacked = {name: torch.stack(parts, 1) for name, parts in columns.items()}
    reward = stacked["reward"].double()
    return Log(
        sessions=LoggedSessions(
            reward=reward,
            pscore=stacked["pscore"],
            slot=stacked["slot"],
            mask=stacked["mask"],
            # Sessions meet in how much they have earned so far: a part of the state only.
            state_id=(reward.cumsum(1) - reward).round().long(),
            user_id=torch.arange(len(seeds)),
        ),
        pools=stacked["pool"],
        filled=stacked["filled"],
        user=user,
    )


def target_of(log: Log, policy: ByContent) -> Target:
    """Its probabilities on the logged pools, and a Q that is fitted to the log."""
    scores = policy.scores(log.pools).double().masked_fill(~log.filled, -torch.inf)
    plain = Target(prob=scores.softmax(2))
    reward = log.sessions.reward
    earned = (reward.cumsum(1) - reward) / HORIZON

    def features(step: int) -> Tensor:
        content = policy.catalogue.features(log.pools[:, step])
        topic = torch.nn.functional.one_hot(content.categorical[..., 0], 16)
        of_state = torch.cat([log.user, earned[:, step, None], torch.ones(len(reward), 1)], 1)
        shape = (-1, content.dense.shape[1], -1)
        return torch.cat([content.dense, topic, of_state[:, None].expand(*shape)], 2)

    plain.q = fitted_q(log.sessions, plain, features)
    return plain


def estimates(log: Log, policies: dict[str, ByContent]) -> dict[str, dict[str, Any]]:
    """Policy -> what `estimate_all` finds."""
    return {
        name: estimate_all(log.sessions, target_of(log, policy))["estimates"]
        for name, policy in policies.items()
    }


def figures_of(
    found: list[dict[str, dict[str, Any]]], truth: dict[str, float], sessions: int
) -> dict[str, Any]:
    """Figures of all logs of one size; errors are shares of the truth."""
    figures: dict[str, Any] = {}
    for name in ESTIMATORS:
        errors, hits, taus, refused = [], [], [], 0
        for block in found:
            known = {p: block[p][name] for p in POLICIES if block[p][name]["value"] is not None}
            refused += len(POLICIES) - len(known)
            errors += [each["value"] / truth[p] - 1.0 for p, each in known.items()]
            hits += [each["low"] <= truth[p] <= each["high"] for p, each in known.items()]
            if len(known) == len(POLICIES):
                values = [known[p]["value"] for p in POLICIES]
                ranked: Any = kendalltau(values, [truth[p] for p in POLICIES])
                taus.append(float(ranked.statistic))
        figures |= _figures(name, sessions, errors, hits, taus, refused)
    unseen = [est["value"] is None for block in found for est in block[UNSEEN].values()]
    figures[f"refused.{UNSEEN}.{sessions}"] = figure(sum(unseen) / len(unseen), n=len(unseen))
    return figures


def _figures(
    name: str, sessions: int, errors: list, hits: list, taus: list, refused: int
) -> dict[str, Any]:
    at, num = f"{name}.{sessions}", len(errors)
    found = {f"refused.{at}": figure(refused / (num + refused), n=num + refused)}
    if num:
        share = sum(hits) / num
        error = math.sqrt(share * (1 - share) / num)
        found |= {
            f"bias.{at}": figure(sum(errors) / num, n=num),
            f"rmse.{at}": figure(math.sqrt(sum(e * e for e in errors) / num), n=num),
            f"coverage.{at}": figure(share, n=num, standard_error=error),
        }
    if taus:
        found[f"kendall_tau.{at}"] = figure(sum(taus) / len(taus), n=len(taus))
    return found


def the_world() -> tuple[VideoFeed, CandidatePool, dict[str, ByContent]]:
    """Where all of it happens, and who is judged."""
    world = VideoFeed(
        preset_name="fatigue",
        num_items=300,
        horizon=HORIZON,
        history_length=HORIZON,
        reward_weights={"watch_10s": 1.0},
    )
    config = CandidatesConfig(num_candidates=POOL, num_nearest=0, num_fresh=0)
    pool = make_pool(config, world.catalogue)
    policies = {n: ByContent(world.catalogue, w, -_SURE) for n, w in POLICIES.items()}
    policies[UNSEEN] = ByContent(world.catalogue, POLICIES["quality"], _SURE)
    return world, pool, policies


def true_values() -> dict[str, float]:
    """Policy -> mean reward of its sessions in the world."""
    world, pool, policies = the_world()
    seeds = draw_seeds(TRUTH_SESSIONS, make_generator(SEED))
    return {
        name: float(rollout(world, policy, pool, seeds, 4096).reward.mean())
        for name, policy in policies.items()
    }


def of_size(size: int, truth: dict[str, float]) -> dict[str, Any]:
    """The figures of all logs of one size."""
    world, pool, policies = the_world()
    seeds = draw_seeds(size * BLOCKS[size], make_generator(SEED + size))
    log = collect(world, pool, ByContent(world.catalogue, LOGGING, -_SURE), seeds)
    parts = torch.arange(len(seeds)).split(size)
    return figures_of([estimates(log.part(part), policies) for part in parts], truth, size)


def main() -> None:
    """Make what is absent, pool, write `result.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=list(BLOCKS), choices=BLOCKS)
    options = parser.parse_args()
    if RECORDS.absent([(TRUTH, SEED)]):
        RECORDS.keep((TRUTH, SEED), true_values())
    truth = RECORDS.find(TRUTH, SEED) or {}
    for size, seed in RECORDS.absent([(size, SEED) for size in options.sizes]):
        RECORDS.keep((size, seed), of_size(size, truth))
        print(size, "sessions: done", flush=True)
    write_result(Path(__file__).parent, COMMAND, aggregate(), seeds=[SEED])


def aggregate() -> dict[str, Any]:
    """What the records say, by name."""
    truth = RECORDS.find(TRUTH, SEED) or {}
    found = {f"truth.{name}": figure(value, unit="reward") for name, value in truth.items()}
    for size in BLOCKS:
        found |= RECORDS.find(size, SEED) or {}
    return found


if __name__ == "__main__":
    main()
