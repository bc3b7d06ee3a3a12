"""Does the simulator rank policies as the world does?

Symbols: `n` policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recomind.evaluation.fidelity.absent import absent
from recomind.evaluation.rollout import rollout
from recomind.streams import draw_seeds
from recomind.types import CandidateSource, Policy, SessionEnvironment


def kendall_tau(first: np.ndarray, second: np.ndarray) -> float | None:
    """Kendall's tau-b (Kendall 1945), which allows for ties; None where either is constant.

    (concordant - discordant) / sqrt(pairs untied in the first * pairs untied in the second).

    >>> kendall_tau(np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, 3.0]))
    0.3333333333333333
    """
    ours, theirs = (np.sign(values[:, None] - values[None, :]) for values in (first, second))
    untied = float((ours**2).sum()) * float((theirs**2).sum())
    return float((ours * theirs).sum() / untied**0.5) if untied > 0 else None


def mean_rewards(
    policies: Mapping[str, Policy],
    environment: SessionEnvironment,
    candidates: CandidateSource,
    seeds: Tensor,
) -> tuple[list[float], list[float]]:
    """Mean reward per session of each policy, and its standard error; all on the same seeds."""
    means, errors = [], []
    for policy in policies.values():
        reward = rollout(environment, policy, candidates, seeds).reward
        means.append(float(reward.mean()))
        errors.append(float(reward.std()) / len(seeds) ** 0.5)
    return means, errors


def rank_agreement(
    policies: Mapping[str, Policy],
    simulator: SessionEnvironment,
    world: SessionEnvironment | None,
    candidates: CandidateSource,
    *,
    num_sessions: int,
    generator: torch.Generator,
    true: tuple[list[float], list[float]] | None = None,
) -> dict[str, Any]:
    """Kendall's tau-b of the policies' simulated and true mean rewards.

    Args:
        policies: by name, at least two.
        simulator: whose ranking is judged.
        world: the truth; None where there is none.
        candidates: pools, the same source in both.
        num_sessions: per policy and environment.
        generator: draws the sessions.
        true: `mean_rewards` in the world, where they are known already.

    Returns:
        `{kendall_tau, policies, simulated, true, simulated_error, true_error, n}`, rewards per
        session in the order of the policies. Neighbours that are closer than their standard errors
        change places by chance, so a tau just below 1 says little.
    """
    if world is None:
        return absent("no world to compare with")
    if len(policies) < 2:
        return absent("fewer than two policies")
    seeds = draw_seeds(num_sessions, generator)
    simulated, simulated_error = mean_rewards(policies, simulator, candidates, seeds)
    means, errors = true or mean_rewards(policies, world, candidates, seeds)
    tau = kendall_tau(np.array(simulated), np.array(means))
    return {
        "kendall_tau": absent("all policies are worth the same") if tau is None else tau,
        "policies": list(policies),
        "simulated": simulated,
        "true": means,
        "simulated_error": simulated_error,
        "true_error": errors,
        "n": num_sessions,
    }
