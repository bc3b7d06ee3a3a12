"""A five-line MDP with a trap for the greedy, and its optimum by value iteration.

A user is in one of three moods. Three kinds of items:

    rush    clicked most now; it bores: the mood falls by one, and a bored user leaves
    steady  clicked less; the mood stays
    soothe  clicked least; the mood rises by one

so that greed takes three good clicks and loses the session, and the best policy rushes and soothes
in turn, until the end, when every user leaves. (A session that was cut there instead would go on in
its value.) The ranker knows every click probability exactly. The state tells the mood, in its user
features, and the time, in its step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recomind.simulation import BatchedSessions, Hidden
from recomind.streams import LANE_WORLD, SessionStreams
from recomind.training.problem import SessionProblem
from recomind.types import Candidates, Response, SessionState
from tests.training.tiny import TinyCatalogue

HORIZON, MOODS, NUM_ITEMS = 8, 3, 6
KIND = torch.arange(NUM_ITEMS) % 3  # rush, steady, soothe, and again
CLICK = torch.tensor([[0.5, 0.7, 0.9], [0.35, 0.45, 0.55], [0.3, 0.4, 0.5]])[KIND]  # [item, mood]
MOVE = torch.tensor([-1, 0, 1])[KIND]


def optimum(gamma: float = 1.0) -> tuple[Tensor, Tensor]:
    """V [HORIZON + 1, MOODS] and the best kind [HORIZON, MOODS] by value iteration."""
    value, best = torch.zeros(HORIZON + 1, MOODS), torch.zeros(HORIZON, MOODS).long()
    for step in reversed(range(HORIZON)):
        for mood in range(MOODS):
            after = [mood + int(move) for move in MOVE[:3]]
            later = [0.0 if m < 0 else value[step + 1, min(m, MOODS - 1)] for m in after]
            q = CLICK[:3, mood] + gamma * torch.tensor(later)
            value[step, mood], best[step, mood] = q.max(), q.argmax()
    return value, best


class TrapWorld(BatchedSessions):
    def __init__(self) -> None:
        super().__init__(
            catalogue=TinyCatalogue(),
            tasks=("click",),
            reward_weights={"click": 1.0},
            horizon=HORIZON,
            history_length=1,
        )

    def _begin(self, streams: SessionStreams) -> tuple[SessionState, Hidden]:
        num = len(streams.seeds)
        mood = torch.full((num,), MOODS - 1)
        state = SessionState(
            user_id=torch.zeros(num, dtype=torch.int64),
            user_features=nn.functional.one_hot(mood, MOODS).float(),
            history_item_id=torch.zeros(num, 1, dtype=torch.int64),
            history_feedback=torch.zeros(num, 1, 1, dtype=torch.bool),
            history_dwell_s=torch.zeros(num, 1),
            history_gap_s=torch.zeros(num, 1),
            history_mask=torch.zeros(num, 1, dtype=torch.bool),
            gap_s=torch.zeros(num),
            step=torch.zeros(num, dtype=torch.int64),
            batch_size=[num],
        )
        return state, {"mood": mood}

    def _respond(
        self, state: SessionState, hidden: Hidden, item_id: Tensor, streams: SessionStreams
    ) -> tuple[Response, Hidden]:
        draws = streams.uniform(state.step, 1, LANE_WORLD)
        mood = hidden["mood"] + MOVE[item_id]
        response = Response(
            feedback=draws < CLICK[item_id, hidden["mood"]][:, None],
            dwell_s=torch.ones(len(item_id)),
            left=(mood < 0) | (state.step + 1 >= HORIZON),
            batch_size=[len(item_id)],
        )
        return response, {"mood": mood.clamp(0, MOODS - 1)}

    def _features_now(self, state: SessionState, hidden: Hidden) -> Tensor:
        return nn.functional.one_hot(hidden["mood"], MOODS).float()


class TrapPool:
    """Every item, always."""

    def candidates(self, state: SessionState, streams: SessionStreams) -> Candidates:
        num = len(streams.seeds)
        shape = (num, NUM_ITEMS)
        return Candidates(
            item_id=torch.arange(NUM_ITEMS).expand(shape).contiguous(),
            mask=torch.ones(shape, dtype=torch.bool),
            log_propensity=torch.zeros(shape),
            batch_size=[num],
        )


class TrapNetwork(nn.Module):
    """The true click probability, frozen, plus a residual of state and item, zero at first."""

    state_width = 32

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.embed = nn.Linear(MOODS + HORIZON + 1, self.state_width)
        with torch.no_grad():
            for parameter in self.embed.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
        self.residual = nn.Linear(self.state_width, NUM_ITEMS)
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)

    def state_vector(self, state: SessionState) -> Tensor:
        step_BT = nn.functional.one_hot(state.step.clamp(max=HORIZON), HORIZON + 1).float()
        return torch.relu(self.embed(torch.cat([state.user_features, step_BT], 1)))

    def q_values(self, state: SessionState, item_id: Tensor) -> tuple[Tensor, Tensor]:
        mood_B = state.user_features.argmax(1)
        utility_BK = CLICK[item_id, mood_B[:, None]]
        residual_BN = self.residual(self.state_vector(state))
        return utility_BK + residual_BN.gather(1, item_id), utility_BK


TRAP = SessionProblem(environment=TrapWorld, candidates=TrapPool, network=TrapNetwork)
