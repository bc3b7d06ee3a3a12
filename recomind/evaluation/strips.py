"""A few sessions item by item: what the policy does to a person, beside what the baseline does.

The sessions are those in which the policy earned most and least more than its baseline. A session
is a function of its seed and of the items that it is shown, so playing it again shows the same one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from recomind.evaluation.arms import Arm
from recomind.evaluation.rollout import SessionOutcomes, choose_items
from recomind.types import SessionEnvironment

NUM_EACH = 2  # best sessions, and as many worst
Strip = dict[str, Any]


def strips_of(
    environment: SessionEnvironment,
    arms: Mapping[str, Arm],
    outcomes: Mapping[str, SessionOutcomes],
    pair: tuple[str, str],
    seeds: Tensor,
) -> list[Strip]:
    """`{which, seed, arms: {arm: {reward, left, steps}}}`, the best sessions first.

    A step is `{item, kind, reward, dwell_s}`; `kind` is the item's first category, None without
    one.

    Args:
        environment: where the arms played.
        arms: by name.
        outcomes: arm -> its sessions on `seeds`.
        pair: the arm on trial, then its baseline.
        seeds: [S] of the sessions, in order.
    """
    gain_S = outcomes[pair[0]].reward - outcomes[pair[1]].reward
    order = gain_S.argsort(descending=True, stable=True)
    num = min(NUM_EACH, len(order) // 2)
    rows = torch.cat([order[:num], order[len(order) - num :]])
    shown = {name: play_again(environment, arms[name], seeds[rows]) for name in pair}
    return [
        {
            "which": "best" if index < num else "worst",
            "seed": int(seeds[row]),
            "arms": {name: shown[name][index] for name in pair},
        }
        for index, row in enumerate(rows.tolist())
    ]


@torch.no_grad()
def play_again(environment: SessionEnvironment, arm: Arm, seeds: Tensor) -> list[dict[str, Any]]:
    """The sessions of `seeds` [B], step by step."""
    state = environment.reset_to(seeds)
    alive_B = torch.ones(len(seeds), dtype=torch.bool)
    found: list[dict[str, Any]] = [{"reward": 0.0, "left": False, "steps": []} for _ in seeds]
    for _ in range(environment.horizon):
        item_B = choose_items(environment, arm.policy, arm.candidates, state, alive_B)
        result = environment.step(item_B)
        features = environment.catalogue.features(item_B)
        for row in alive_B.nonzero()[:, 0].tolist():
            kinds = features.categorical[row].tolist()
            reward = round(float(result.reward[row]), 6)
            found[row]["reward"] = round(found[row]["reward"] + reward, 6)
            found[row]["left"] = bool(result.terminated[row])
            found[row]["steps"].append(
                {
                    "item": int(item_B[row]),
                    "kind": kinds[0] if kinds else None,
                    "reward": reward,
                    "dwell_s": round(float(result.response.dwell_s[row]), 1),
                }
            )
        state, alive_B = result.state, alive_B & ~(result.terminated | result.truncated)
        if not bool(alive_B.any()):
            break
    return found
