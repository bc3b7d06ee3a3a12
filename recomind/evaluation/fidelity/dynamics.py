"""Policies that differ by what they do to a session, not by whom they please at the next step.

Two simulators fitted to the same logs can rank nine policies of different taste alike and both be
wrong by a factor about what a whole session of one topic does, because hardly any logged session
was one. Here policies that stay with a topic, that avoid the last topics, and that greedily please
play in both simulators, and where these disagree on what such a session is worth, sessions of that
kind are what to collect first. Ours.

Symbols: `B` decisions, `K` candidates, `L` history events.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recomind.evaluation.fidelity.absent import absent
from recomind.evaluation.fidelity.agreement import mean_rewards
from recomind.policy import RandomPolicy, RankerPolicy
from recomind.types import (
    Candidates,
    CandidateSource,
    Catalogue,
    Policy,
    Ranker,
    SessionEnvironment,
    SessionState,
)

REPEAT, ALTERNATE, GREEDY, RANDOM = "repeat_topic", "alternate_topics", "ranker", "random"
_AVOIDED = 3  # latest topics that `ALTERNATE` keeps away from
_MANY = 0.5  # topics for each item above which a category is a name and no topic
_APART = 1.5  # ratio of two simulators' values that is worth a plan
_PRECISION = 0.1  # half the width of the interval that planned sessions are to give


def topic_column(catalogue: Catalogue) -> int | None:
    """The categorical feature of fewest values, at least two, that groups items; None without."""
    sizes = [
        (size, column)
        for column, size in enumerate(catalogue.vocab_sizes)
        if 2 <= size <= _MANY * catalogue.num_items
    ]
    return min(sizes)[1] if sizes else None


class TopicPolicy(RankerPolicy):
    """The ranker's choice among candidates of the last topic, or of none of the latest topics.

    Args:
        rankers: of which the mean utility decides.
        reward_weights: task -> weight.
        catalogue: has the topics.
        column: which categorical feature they are.
        repeats: stay with the last topic; otherwise keep away from the latest three.
    """

    def __init__(
        self,
        rankers: Sequence[Ranker],
        reward_weights: Mapping[str, float],
        catalogue: Catalogue,
        column: int,
        *,
        repeats: bool,
    ) -> None:
        super().__init__(rankers, reward_weights)
        self._catalogue, self._column, self._repeats = catalogue, column, repeats

    @torch.no_grad()
    def scored(self, state: SessionState, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Mean utility [B, K], and the candidates of the wanted topics; all where there is none."""
        scores_BK, mask_BK = super().scored(state, candidates)
        topic_BK = self._topics(candidates.item_id)
        num = 1 if self._repeats else _AVOIDED
        shown_Bn = self._topics(state.history_item_id[:, -num:])
        seen_Bn = torch.arange(num, 0, -1) <= state.step[:, None]  # events of this session
        same_BK = ((topic_BK[:, :, None] == shown_Bn[:, None]) & seen_Bn[:, None]).any(2)
        wanted_BK = mask_BK & (same_BK if self._repeats else ~same_BK)
        free_B1 = ~wanted_BK.any(1, keepdim=True) | (state.step == 0)[:, None]
        return scores_BK, torch.where(free_B1, mask_BK, wanted_BK)

    def _topics(self, item_id: Tensor) -> Tensor:
        return self._catalogue.features(item_id).categorical[..., self._column]


@dataclass(kw_only=True, slots=True)
class Dynamics:
    """Who plays, and from what pools."""

    topic: str  # name of the category
    policies: Mapping[str, Policy]
    pool: CandidateSource


def dynamics_of(
    rankers: Sequence[Ranker],
    reward_weights: Mapping[str, float],
    catalogue: Catalogue,
    pool: CandidateSource,
) -> Dynamics | None:
    """The policies for a catalogue; None where no category groups its items."""
    column, first = topic_column(catalogue), list(rankers)[:1]
    if column is None:
        return None
    policies: dict[str, Policy] = {
        GREEDY: RankerPolicy(first, reward_weights),
        RANDOM: RandomPolicy(),
        REPEAT: TopicPolicy(first, reward_weights, catalogue, column, repeats=True),
        ALTERNATE: TopicPolicy(first, reward_weights, catalogue, column, repeats=False),
    }
    return Dynamics(topic=catalogue.categorical_names[column], policies=policies, pool=pool)


def dynamics_section(
    found: Dynamics | None, environments: Mapping[str, SessionEnvironment], seeds: Tensor
) -> dict[str, Any]:
    """What each policy is worth in each environment, and what to collect first.

    Args:
        found: from `dynamics_of`.
        environments: the simulators, and the world where there is one.
        seeds: [S] of the sessions, the same for all.

    Returns:
        `{topic, policies, n, rewards: {environment: [...]}, errors: {...}, plan}`; `plan` is a list
        of `{policy, sessions, cost, values}`: so many sessions give its value within 10 %, at a
        cost of this share of the ranker's value as the lower simulator has it.
    """
    if found is None:
        return absent("no category groups the items of the catalogue")
    played = {
        name: mean_rewards(found.policies, environment, found.pool, seeds)
        for name, environment in environments.items()
    }
    names = list(found.policies)
    simulators = [name for name in environments if name != "world"]
    return {
        "topic": found.topic,
        "policies": names,
        "n": len(seeds),
        "rewards": {name: means for name, (means, _) in played.items()},
        "errors": {name: errors for name, (_, errors) in played.items()},
        "plan": plan_of(names, [played[name] for name in simulators], len(seeds)),
    }


def plan_of(
    names: Sequence[str], simulators: Sequence[tuple[list[float], list[float]]], num: int
) -> list[dict[str, Any]]:
    """Policies on whose value the simulators disagree, the most doubtful first.

    Args:
        names: of the policies, `GREEDY` among them.
        simulators: of each, mean rewards by policy and their standard errors.
        num: sessions that these are of.
    """
    if len(simulators) < 2:
        return []
    plan = []
    for index, name in enumerate(names):
        means = [means[index] for means, _ in simulators]
        if name == RANDOM or min(means) <= 0.0 or max(means) / min(means) < _APART:
            continue
        low = means.index(min(means))
        of_low, errors = simulators[low]
        deviation = errors[index] * math.sqrt(num)
        greedy = of_low[names.index(GREEDY)]
        plan.append(
            {
                "policy": name,
                "sessions": max(1, math.ceil((2 * deviation / (_PRECISION * of_low[index])) ** 2)),
                "cost": 1.0 - of_low[index] / greedy if greedy > 0.0 else 0.0,
                "values": means,
            }
        )
    return sorted(plan, key=lambda each: -max(each["values"]) / min(each["values"]))


def plan_note(section: Mapping[str, Any]) -> str:
    """A sentence on what to collect first; empty where the simulators agree."""
    plan = section.get("plan") or []
    if not plan:
        return ""
    first = plan[0]
    low, high = min(first["values"]), max(first["values"])
    return (
        f"warning: the logs do not tell what a session of {first['policy']} is worth (the "
        f"simulators say {low:.2f} and {high:.2f}): collect {first['sessions']:,} sessions of it "
        f"first, which cost {first['cost']:.0%} of the ranker's reward"
    )
