"""Learned simulators: whole sessions out of fitted response, dwell and leave models.

`LearnedSimulator` is what a policy trains in: a ranker ensemble behind gates, sampled
pessimistically. `TreeSimulator` is what it is judged in: gradient-boosted trees over counted
features, fitted on other users and later days. Both begin sessions from logged states.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from recomind.errors import RecomindError, SchemaError
from recomind.simulation.config import Pessimism
from recomind.simulation.dwell import DwellModel
from recomind.simulation.environment import (
    LANE_BEGIN,
    LANE_WORLD,
    BatchedSessions,
    Hidden,
    append_event,
)
from recomind.simulation.response import SummaryNet, joint_feedback
from recomind.simulation.summary import summarise
from recomind.simulation.trees import TreeModels
from recomind.streams import SessionStreams
from recomind.types import Catalogue, Ranker, Response, SessionState


class FittedSessions(BatchedSessions):
    """Base of simulators fitted to logs; a subclass brings probabilities and hazard.

    Args:
        starts: states [S] at step 0 that sessions begin from, one drawn per session.
        dwell: dwell-time distribution given the item and the feedback.
        couplings: how each task is drawn beside the first one (`joint_feedback`).
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        tasks: tuple[str, ...],
        starts: SessionState,
        dwell: DwellModel,
        couplings: Sequence[int],
        reward_weights: Mapping[str, float],
        horizon: int,
    ) -> None:
        if len(starts) == 0:
            raise SchemaError("no session to begin from", mend="check the splits of the sessions")
        super().__init__(
            catalogue=catalogue,
            tasks=tasks,
            reward_weights=reward_weights,
            horizon=horizon,
            history_length=starts.history_mask.shape[1],
        )
        self.starts, self.dwell, self.couplings = starts, dwell, list(couplings)

    @abstractmethod
    def probabilities(self, state: SessionState, item_id: Tensor) -> Tensor:
        """[B, H]: what the sampled feedback's rates are for `item_id` [B]."""

    @abstractmethod
    def hazard(self, state: SessionState) -> Tensor:
        """[B]: probability of leaving now, from the state after the last event."""

    def _begin(self, streams: SessionStreams) -> tuple[SessionState, Hidden]:
        zero = torch.zeros(len(streams.seeds), dtype=torch.int64)
        draw = streams.uniform(zero, 1, LANE_BEGIN)[:, 0]
        index = (draw.double() * len(self.starts)).long()
        return self.starts[index].clone(), {}

    @torch.no_grad()
    def _respond(
        self, state: SessionState, hidden: Hidden, item_id: Tensor, streams: SessionStreams
    ) -> tuple[Response, Hidden]:
        num_tasks = len(self.tasks)
        draws = streams.uniform(state.step, num_tasks + 2, LANE_WORLD)
        probability = self.probabilities(state, item_id)
        if not bool(torch.isfinite(probability).all()):
            raise RecomindError(
                "the response model gave a probability that is not finite",
                got=f"at step {int(state.step.max())}",
                mend="check the ranker with its quality report; it may have diverged",
            )
        feedback = joint_feedback(probability, draws[:, :num_tasks], self.couplings)
        response = Response(
            feedback=feedback,
            dwell_s=self.dwell.sample(
                self.catalogue.features(item_id).dense, feedback, draws[:, num_tasks]
            ),
            left=torch.zeros(len(item_id), dtype=torch.bool),
            batch_size=[len(item_id)],
        )
        after = append_event(state, item_id, response)
        response.left = draws[:, num_tasks + 1] < self.hazard(after)
        return response, hidden


class LearnedSimulator(FittedSessions):
    """The training simulator: ranker ensemble, a gate each, an ensemble of hazards.

    Args:
        rankers: the ensemble, all of the same tasks in the same order.
        gates: one a ranker, logits [B, H] from the summary of a state.
        hazards: hazard networks, logits [B, 1] from the summary after an event.
        pessimism: how the ensemble's disagreement turns into a worse probability.
        deviation_k: `k` of `Pessimism.deviation`.
        catalogue: of the items; the one that a ranker knows where None.

    Raises:
        SchemaError: members of different tasks, or no catalogue.
    """

    def __init__(
        self,
        rankers: Sequence[Ranker],
        gates: Sequence[SummaryNet],
        hazards: Sequence[SummaryNet],
        *,
        pessimism: Pessimism = Pessimism.minimum,
        deviation_k: float = 1.0,
        catalogue: Catalogue | None = None,
        **shared: object,
    ) -> None:
        tasks = {ranker.tasks for ranker in rankers}
        if len(tasks) != 1:
            raise SchemaError(
                "an ensemble of rankers with different tasks",
                got=sorted(tasks),
                expected="the same tasks in the same order",
            )
        super().__init__(
            tasks=rankers[0].tasks,
            catalogue=_catalogue_of(rankers) if catalogue is None else catalogue,
            **shared,  # type: ignore[arg-type]
        )
        self.rankers, self.gates, self.hazards = list(rankers), list(gates), list(hazards)
        self.pessimism, self.deviation_k = pessimism, deviation_k

    def member_probabilities(self, state: SessionState, item_id: Tensor) -> Tensor:
        """[E, B, H]: each member's gated probabilities."""
        summary = summarise(state, self.catalogue)
        members = []
        for ranker, gate in zip(self.rankers, self.gates, strict=True):
            logits = ranker.score(ranker.encode_state(state), item_id[:, None])[:, 0]
            members.append(gate(summary).sigmoid() * logits.sigmoid())
        return torch.stack(members)

    def probabilities(self, state: SessionState, item_id: Tensor) -> Tensor:
        """[B, H]: pessimistic in the tasks that the reward weighs, the mean in the others."""
        members_EBH = self.member_probabilities(state, item_id)
        sign_H = self.reward_weights_H.sign()
        return self._worse(members_EBH, sign_H).clamp(0.0, 1.0)

    def hazard(self, state: SessionState) -> Tensor:
        """[B]: pessimistic, that is towards leaving."""
        summary = summarise(state, self.catalogue)
        members_EB1 = torch.stack([net(summary).sigmoid() for net in self.hazards])
        return self._worse(members_EB1, -torch.ones(1)).clamp(0.0, 1.0)[:, 0]

    def _worse(self, members_E: Tensor, sign: Tensor) -> Tensor:
        """Mean over members moved against `sign` (1: less is worse; -1: more; 0: the mean)."""
        mean = members_E.mean(0)
        if self.pessimism is Pessimism.none or len(members_E) == 1:
            return mean
        if self.pessimism is Pessimism.deviation:
            return mean - sign * self.deviation_k * members_E.std(0)
        low, high = members_E.min(0).values, members_E.max(0).values
        return torch.where(sign > 0, low, torch.where(sign < 0, high, mean))


def _catalogue_of(rankers: Sequence[Ranker]) -> Catalogue:
    for ranker in rankers:
        catalogue = getattr(ranker, "catalogue", None)
        if isinstance(catalogue, Catalogue):
            return catalogue
    raise SchemaError("no ranker of the ensemble knows its catalogue", mend="pass catalogue=...")


class TreeSimulator(FittedSessions):
    """The hold-out simulator: LightGBM response and hazard models, no pessimism.

    Args:
        models: fitted on other users and later days (`fit_trees`).
    """

    def __init__(self, models: TreeModels, **shared: object) -> None:
        super().__init__(tasks=models.tasks, **shared)  # type: ignore[arg-type]
        self.models = models

    def probabilities(self, state: SessionState, item_id: Tensor) -> Tensor:
        """[B, H]."""
        return self.models.responses(state, item_id, self.catalogue)

    def hazard(self, state: SessionState) -> Tensor:
        """[B]."""
        return self.models.hazard(state, self.catalogue)
