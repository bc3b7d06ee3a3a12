"""Learned simulators: whole sessions from fitted response, dwell and leave models.

`LearnedSimulator` is what a policy trains in: a ranker ensemble with fatigue and a member of
trees, sampled pessimistically. `TreeSimulator` is what it is judged in: trees alone, fitted to
other users. In both, sessions begin from logged states.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recomind.errors import ConfigError, SchemaError
from recomind.incremental import Handle
from recomind.ranker import Calibration, tasks_of
from recomind.simulation.config import Pessimism
from recomind.simulation.dwell import DwellModel
from recomind.simulation.environment import Advance, BatchedSessions, Hidden
from recomind.simulation.finite import require_finite_probabilities
from recomind.simulation.moving import MovingFeatures
from recomind.simulation.response import SummaryNet, calibrated, joint_feedback, joint_rate
from recomind.simulation.running import RunningSessions
from recomind.simulation.states import append_event, rows_of
from recomind.simulation.summary import SessionSummary
from recomind.simulation.tree_member import TreeMember
from recomind.simulation.trees import TreeModels
from recomind.streams import LANE_BEGIN, LANE_WORLD, SessionStreams
from recomind.types import Catalogue, Ranker, Response, SessionState

_LEAVING = ("leaving",)


@dataclass(slots=True)
class Seen:
    """What fitted models see of `B` sessions; the models' own inputs are made on demand."""

    state: SessionState
    token: Any = None  # from which a model's inputs are brought along


class FittedSessions(BatchedSessions):
    """Base of simulators fitted to logs; a subclass adds probabilities and hazard.

    Args:
        starts: states [S] at step 0; each session begins from one drawn at random.
        dwell: dwell-time distribution given the item and the feedback.
        couplings: how each task is drawn given the first one (`joint_feedback`).
        moving: how user features go on that change within a session; None where none do.
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
        moving: MovingFeatures | None = None,
    ) -> None:
        if len(starts) == 0:
            raise SchemaError(
                "there is no session to begin from", mend="check the splits of the sessions"
            )
        super().__init__(
            catalogue=catalogue,
            tasks=tasks,
            reward_weights=reward_weights,
            horizon=horizon,
            history_length=starts.history_mask.shape[1],
        )
        self.starts, self.dwell, self.couplings = starts, dwell, list(couplings)
        self.moving = moving

    @abstractmethod
    def probabilities(self, state: SessionState, item_id: Tensor) -> Tensor:
        """[B, H]: probability of each feedback to `item_id` [B]."""

    @abstractmethod
    def hazard(self, state: SessionState) -> Tensor:
        """[B]: probability of leaving now, given the state after the last event."""

    def _begin(self, streams: SessionStreams) -> tuple[SessionState, Hidden]:
        zero = torch.zeros(len(streams.seeds), dtype=torch.int64)
        draw = streams.uniform(zero, 1, LANE_BEGIN)[:, 0]
        index = (draw.double() * len(self.starts)).long()
        return rows_of(self.starts, index), {}

    def _features_now(self, state: SessionState, hidden: Hidden) -> Tensor:
        return state.user_features if self.moving is None else self.moving.after(state)

    def _respond(
        self, state: SessionState, hidden: Hidden, item_id: Tensor, streams: SessionStreams
    ) -> tuple[Response, Hidden]:
        came = self._advance(state, hidden, item_id, streams, None)
        return came.response, came.hidden

    @torch.no_grad()
    def _advance(
        self,
        state: SessionState,
        hidden: Hidden,
        item_id: Tensor,
        streams: SessionStreams,
        token: Any,
    ) -> Advance:
        num_tasks = len(self.tasks)
        draws = streams.uniform(state.step, num_tasks + 2, LANE_WORLD)
        seen = self._seen(state, token)
        probability, hidden = self._sampled(seen, hidden, item_id)
        feedback = joint_feedback(probability, draws[:, :num_tasks], self.couplings)
        response = Response(
            feedback=feedback,
            dwell_s=self.dwell.sample(
                self.catalogue.features(item_id).dense, feedback, draws[:, num_tasks]
            ),
            left=torch.zeros(len(item_id), dtype=torch.bool),
            batch_size=[len(item_id)],
        )
        after = self._seen_after(seen, append_event(state, item_id, response))
        hazard = self._leaving(after)
        require_finite_probabilities(hazard[None, :, None], _LEAVING, state.step)
        response.left = draws[:, num_tasks + 1] < hazard
        response.feedback_rate = joint_rate(probability, self.couplings)
        response.leave_rate = hazard
        return Advance(response, hidden, after.state, after.token)

    def _seen(self, state: SessionState, token: Any) -> Seen:
        """What the models see of `state`, given the token of the step that led to it."""
        del token
        return Seen(state)

    def _seen_after(self, seen: Seen, after: SessionState) -> Seen:
        """What they see of `after`, which follows on `seen` by one event in every session."""
        del seen
        return Seen(after)

    def _sampled(self, seen: Seen, hidden: Hidden, item_id: Tensor) -> tuple[Tensor, Hidden]:
        """`probabilities` [B, H], and what is hidden after the event."""
        probability_BH = self.probabilities(seen.state, item_id)
        require_finite_probabilities(probability_BH[None], self.tasks, seen.state.step)
        return probability_BH, hidden

    def _leaving(self, seen: Seen) -> Tensor:
        """`hazard` [B]."""
        return self.hazard(seen.state)


class LearnedSimulator(FittedSessions):
    """The training simulator: a ranker ensemble, each with a fatigue network, and hazards.

    Args:
        rankers: the ensemble, all of the same tasks in the same order.
        fatigue_nets: one for each ranker, logits [B, H] from the summary of a state; None where
            nobody tires.
        hazards: hazard networks, logits [B, 1] from the summary after an event.
        calibrations: one for each ranker, applied to its probabilities after fatigue; None for
            none.
        trees: a further member, of responses and of leaving; None for none.
        pessimism: how the ensemble's disagreement lowers a probability.
        deviation_k: `k` of `Pessimism.deviation`.
        item_categories: whether the networks were fitted to summaries with categories
            (`SessionSummary`).
        uncertainty_stop: a session is truncated after an event at which the members' expected
            rewards differ by more than this (`disagreement`); 0 never truncates one.
        catalogue: the items; the catalogue of the first ranker that has one where None.

    Raises:
        SchemaError: the members have different tasks, or no catalogue is known.
        ConfigError: `uncertainty_stop` with a single ranker.
    """

    def __init__(
        self,
        rankers: Sequence[Ranker],
        fatigue_nets: Sequence[SummaryNet] | None,
        hazards: Sequence[SummaryNet],
        *,
        calibrations: Sequence[Calibration] | None = None,
        trees: TreeMember | None = None,
        pessimism: Pessimism = Pessimism.minimum,
        deviation_k: float = 1.0,
        uncertainty_stop: float = 0.0,
        item_categories: bool = False,
        catalogue: Catalogue | None = None,
        **shared: object,
    ) -> None:
        tasks = tasks_of(rankers)
        require_members(uncertainty_stop, len(rankers))
        super().__init__(
            tasks=tasks,
            catalogue=_catalogue_of(rankers) if catalogue is None else catalogue,
            **shared,  # type: ignore[arg-type]
        )
        self.rankers, self.hazards = list(rankers), list(hazards)
        self.fatigue_nets = None if fatigue_nets is None else list(fatigue_nets)
        self.calibrations = None if calibrations is None else list(calibrations)
        self.trees = trees
        self.pessimism, self.deviation_k = pessimism, deviation_k
        self.uncertainty_stop, self.item_categories = uncertainty_stop, item_categories
        self._kept: RunningSessions | None = None

    @property
    def cuts_early(self) -> bool:
        """Whether sessions are truncated where the members disagree."""
        return self.uncertainty_stop > 0.0

    def _begin(self, streams: SessionStreams) -> tuple[SessionState, Hidden]:
        state, hidden = super()._begin(streams)
        if self.cuts_early:
            hidden |= {"disagreement": torch.zeros(len(streams.seeds))}
        return state, hidden

    def _cut(self, hidden: Hidden) -> Tensor:
        return hidden["disagreement"] > self.uncertainty_stop

    def _sampled(self, seen: Seen, hidden: Hidden, item_id: Tensor) -> tuple[Tensor, Hidden]:
        encodings = self._running.encode(seen.token)
        members_EBH = self._members(encodings, seen, item_id)
        require_finite_probabilities(members_EBH, self.tasks, seen.state.step)
        if self.cuts_early:
            hidden = hidden | {"disagreement": self.disagreement(members_EBH)}
        return self._pessimistic(members_EBH), hidden

    def disagreement(self, members_EBH: Tensor) -> Tensor:
        """[B]: the range of the members' expected rewards, largest - smallest. Ours."""
        reward_EB = members_EBH @ self.reward_weights_H
        return reward_EB.amax(0) - reward_EB.amin(0)

    def member_probabilities(self, state: SessionState, item_id: Tensor) -> Tensor:
        """[E, B, H]: each member's probabilities; rankers with fatigue first, then the trees."""
        encodings = [ranker.encode_state(state) for ranker in self.rankers]
        return self._members(encodings, Seen(state), item_id)

    def _members(self, encodings: list[Any], seen: Seen, item_id: Tensor) -> Tensor:
        summary_BM = self._before(seen, item_id)
        members_EBH = self._by_rankers(encodings, summary_BM, item_id)
        if self.trees is None or summary_BM is None:
            return members_EBH
        trees_BH = self.trees.responses(
            members_EBH, seen.state, item_id, self.catalogue, summary_BM
        )
        return torch.cat([members_EBH, trees_BH[None]])

    def _before(self, seen: Seen, item_id: Tensor) -> Tensor | None:
        """[B, M]: the summary for the items shown next, where a model reads it."""
        if self.fatigue_nets is None and self.trees is None:
            return None
        if seen.token is None:
            return self._summary(seen.state, shown=item_id)
        return self._running.summarise(seen.token, item_id)

    def _by_rankers(
        self, encodings: list[Any], summary_BM: Tensor | None, item_id: Tensor
    ) -> Tensor:
        members_EBH = torch.stack(
            [
                ranker.score(encoding, item_id[:, None])[:, 0].sigmoid()
                for ranker, encoding in zip(self.rankers, encodings, strict=True)
            ]
        )
        if self.fatigue_nets is not None and summary_BM is not None:
            factors = [net(summary_BM).sigmoid() for net in self.fatigue_nets]
            members_EBH = members_EBH * torch.stack(factors)
        if self.calibrations is None:
            return members_EBH
        maps = zip(self.calibrations, members_EBH, strict=True)
        return torch.stack([calibrated(one, p_BH) for one, p_BH in maps])

    def probabilities(self, state: SessionState, item_id: Tensor) -> Tensor:
        """[B, H]: pessimistic for the tasks that the reward weighs, the mean for the others."""
        return self._pessimistic(self.member_probabilities(state, item_id))

    def _pessimistic(self, members_EBH: Tensor) -> Tensor:
        return self._worse(members_EBH, self.reward_weights_H.sign()).clamp(0.0, 1.0)

    def hazard(self, state: SessionState) -> Tensor:
        """[B]: pessimistic, that is towards leaving."""
        return self._hazard(state, self._summary(state))

    def _leaving(self, seen: Seen) -> Tensor:
        return self._hazard(seen.state, self._running.summarise(seen.token))

    def _hazard(self, state: SessionState, summary: Tensor) -> Tensor:
        members_EB1 = torch.stack([net(summary).sigmoid() for net in self.hazards])
        if self.trees is not None:
            members_EB1 = torch.cat([members_EB1, self.trees.hazard(summary)[None, :, None]])
        require_finite_probabilities(members_EB1, _LEAVING, state.step - 1)  # the last event
        return self._worse(members_EB1, -torch.ones(1)).clamp(0.0, 1.0)[:, 0]

    def _seen(self, state: SessionState, token: Handle | None) -> Seen:
        running = self._running
        return Seen(state, running.find(state) if token is None else token)

    def _seen_after(self, seen: Seen, after: SessionState) -> Seen:
        return Seen(after, self._running.append(seen.token, after))

    def _kept_token(self, token: Handle, state: SessionState, rows: Tensor) -> Handle:
        return self._running.keep(token, state, rows)

    @torch.no_grad()
    def _restart(self, where: Tensor) -> None:
        token = self._token
        super()._restart(where)
        if token is not None:
            self._token = self._running.replace(token, self._state, where.nonzero()[:, 0])

    @property
    def _running(self) -> RunningSessions:
        """For the present rankers and catalogue."""
        if self._kept is None or not self._kept.is_for(self.rankers, self.catalogue):
            self._kept = RunningSessions(self.rankers, self._summary)
            self._kept.know_items(self.starts)
        return self._kept

    @property
    def _summary(self) -> SessionSummary:
        return SessionSummary(self.catalogue, self.item_categories)

    def get_state(self) -> dict[str, Tensor]:
        """Tensors from which `set_state` continues exactly, here or in another process."""
        self._clear_cache()
        return super().get_state()

    def set_state(self, tensors: Mapping[str, Tensor], *, auto_reset: bool = True) -> SessionState:
        """Continue where `get_state` was taken."""
        self._clear_cache()
        return super().set_state(tensors, auto_reset=auto_reset)

    def _clear_cache(self) -> None:
        """Cached values round differently from recomputed ones."""
        self._token = None
        if self._kept is not None:
            self._kept.clear_cache()

    def _worse(self, members_E: Tensor, sign: Tensor) -> Tensor:
        """Mean over members, shifted against `sign` (1: less is worse; -1: more; 0: neither)."""
        mean = members_E.mean(0)
        if self.pessimism is Pessimism.none or len(members_E) == 1:
            return mean
        if self.pessimism is Pessimism.deviation:
            return mean - sign * self.deviation_k * members_E.std(0)
        low, high = members_E.amin(0), members_E.amax(0)
        return torch.where(sign > 0, low, torch.where(sign < 0, high, mean))


def require_members(uncertainty_stop: float, num_members: int) -> None:
    """Refuse `uncertainty_stop` with a single ranker, which never disagrees with itself.

    Raises:
        ConfigError: `uncertainty_stop` is above 0 with fewer than two members.
    """
    if uncertainty_stop > 0.0 and num_members < 2:
        raise ConfigError(
            "simulation.uncertainty_stop needs an ensemble",
            got=f"{num_members} ranker",
            expected=">= 2 rankers",
            mend="raise ranker.num_members, or set simulation.uncertainty_stop=0",
        )


def _catalogue_of(rankers: Sequence[Ranker]) -> Catalogue:
    for ranker in rankers:
        catalogue = getattr(ranker, "catalogue", None)
        if isinstance(catalogue, Catalogue):
            return catalogue
    raise SchemaError("no ranker of the ensemble has a catalogue", mend="pass catalogue=...")


class TreeSimulator(FittedSessions):
    """The hold-out simulator: LightGBM response and hazard models, no pessimism.

    Args:
        models: fitted to hold-out users (`fit_trees`).
    """

    def __init__(self, models: TreeModels, **shared: object) -> None:
        super().__init__(tasks=models.tasks, **shared)  # type: ignore[arg-type]
        self.models = models

    def probabilities(self, state: SessionState, item_id: Tensor) -> Tensor:
        """[B, H]: probability of each feedback."""
        return self.models.responses(state, item_id, self.catalogue)

    def hazard(self, state: SessionState) -> Tensor:
        """[B]: probability of leaving."""
        return self.models.hazard(state, self.catalogue)
