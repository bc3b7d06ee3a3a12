"""One run: train in the world with one kind of exploration, measure, keep `measured.json`.

Called by `experiments.exploration.exploration` in a process of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from experiments.demo_runs import run_of
from recomind.artifacts import write_json
from recomind.candidates import (
    EnsembleExploration,
    Exploration,
    UniformExploration,
    make_exploration,
)
from recomind.evaluation.ope.weights import effective_size
from recomind.evaluation.rollout import rollout
from recomind.pipeline import Run
from recomind.pipeline.loading import problem
from recomind.policy import QNetwork, QPolicy, RankerPolicy, decide, support_mask
from recomind.streams import draw_seeds
from recomind.training.dqn.reference import ReferenceTrainer
from recomind.training.problem import SessionProblem
from recomind.training.rows import SessionRows
from recomind.types import Candidates, Decision, SessionState

MEASURED = "measured.json"


class WatchedTrainer(ReferenceTrainer):
    """The reference trainer; what its users were shown and what they gave back is kept."""

    def __init__(self, problem: SessionProblem, run: Run) -> None:
        super().__init__(problem, run.config.training, seed=run.seed("exploration"))
        self.returns: list[float] = []
        num_items = self.sampler.environment.catalogue.num_items
        self.shown_N = torch.zeros(num_items, dtype=torch.bool)
        simulate = self.sampler.simulate

        def watched(*, force_reset: bool = False) -> SessionRows:
            rows = simulate(force_reset=force_reset)
            self.returns.extend(rows.returns)
            self.shown_N[rows.columns["item_id"][rows.columns["valid"]]] = True
            return rows

        self.sampler.simulate = watched


class WatchedPolicy:
    """Explores, and keeps for each decision what it takes to judge others from its logs."""

    def __init__(self, network: QNetwork, exploration: Exploration, members: RankerPolicy) -> None:
        self.network, self.exploration, self.members = network, exploration, members
        self.decisions: list[dict[str, Tensor]] = []

    @torch.no_grad()
    def act(self, state: SessionState, candidates: Candidates, uniforms: Tensor) -> Decision:
        """One candidate a session, as in training."""
        q_BK, utility_BK = self.network.q_values(state, candidates.item_id)
        ratio = self.network.config.support_ratio
        allowed_BK = support_mask(utility_BK, candidates.mask, ratio)
        scores = q_BK
        if isinstance(self.exploration, EnsembleExploration):
            scores = q_BK - utility_BK + self.members.member_scores(state, candidates)
        decision = decide(scores, allowed_BK, candidates, uniforms, self.exploration)
        self.decisions.append(self._judged(scores, utility_BK, allowed_BK, candidates, decision))
        return decision

    def _judged(
        self,
        scores: Tensor,
        utility_BK: Tensor,
        allowed_BK: Tensor,
        pool: Candidates,
        decision: Decision,
    ) -> dict[str, Tensor]:
        """Importance weights [B] of two target policies, and what logs of this one leave out."""
        slot_B1, propensity_B = decision.slot[:, None], decision.log_propensity.double().exp()
        log_BK = self.exploration.log_propensities(scores, allowed_BK, pool.item_id)
        uniform_BK, ranker_BK = (
            UniformExploration(epsilon)
            .log_propensities(utility_BK, allowed_BK, pool.item_id)
            .double()
            .exp()
            for epsilon in (1.0, 0.0)
        )
        return {
            "ess": ranker_BK.gather(1, slot_B1)[:, 0] / propensity_B,
            "ess_uniform": uniform_BK.gather(1, slot_B1)[:, 0] / propensity_B,
            "out_of_reach": (uniform_BK * log_BK.isneginf()).sum(1),
        }


def measure(run: Run) -> dict[str, float]:
    """Train and measure one run."""
    training, world = run.config.training, run.require_world("exploration")
    in_world = dataclasses.replace(problem(run.round(0)), environment=lambda: world)
    assert in_world.members is not None
    trainer = WatchedTrainer(in_world, run)
    trainer.run(training.num_env_steps)
    network = cast(QNetwork, trainer.network).eval()
    pool, members = in_world.candidates(), in_world.members()
    seeds = draw_seeds(run.config.curve_sessions, run.generator("curve"))
    exploration = make_exploration(training.exploring(training.num_env_steps))
    logger = WatchedPolicy(network, exploration, members)
    first = RankerPolicy(members.rankers[:1], run.weights)
    after, alone, logged = (
        float(rollout(world, policy, pool, seeds).reward.mean())
        for policy in (QPolicy(network), first, logger)
    )
    kept = {name: torch.cat([d[name] for d in logger.decisions]) for name in logger.decisions[0]}
    return {
        "true_return_after": after,
        "true_return_during": sum(trainer.returns) / len(trainer.returns),
        "true_return_ranker": alone,
        "true_return_exploring": logged,
        "ess": effective_size(kept["ess"].double().log()) / len(kept["ess"]),
        "ess_uniform": effective_size(kept["ess_uniform"].double().log()) / len(kept["ess"]),
        "out_of_reach": float(kept["out_of_reach"].mean()),
        "coverage": float(trainer.shown_N.double().mean()),
        "num_events": float(trainer.num_env_steps),
        "num_sessions": float(len(trainer.returns)),
    }


def main() -> None:
    """`python -m experiments.exploration.one SHARED_FOLDER RUN_FOLDER [setting=value ...]`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path, help="run folder with ranker and index")
    parser.add_argument("folder", type=Path, help="where measured.json goes")
    parser.add_argument("changes", nargs="*", help="Hydra settings")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = run_of(arguments.shared, arguments.changes)
    write_json(arguments.folder / MEASURED, measure(run))


if __name__ == "__main__":
    main()
