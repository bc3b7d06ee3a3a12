"""A world of 20 items with a known best policy, and the smallest network that can learn it.

Item 0 is the greedy choice (clicked with .9) and drives the user away (.6); item 1 is clicked a
little less (.7) and keeps the user (.05). The ranker, being right about clicks, shows item 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recomind.simulation import BatchedSessions, Hidden
from recomind.streams import LANE_BEGIN, LANE_WORLD, SessionStreams
from recomind.training.config import TrainingConfig
from recomind.training.problem import SessionProblem
from recomind.types import Candidates, ItemFeatures, Response, SessionState

NUM_ITEMS, LENGTH = 20, 6
CLICK = torch.linspace(0.6, 0.1, NUM_ITEMS).index_copy(
    0, torch.tensor([0, 1]), torch.tensor([0.9, 0.7])
)
LEAVE = torch.full((NUM_ITEMS,), 0.3).index_copy(0, torch.tensor([0, 1]), torch.tensor([0.6, 0.05]))


class TinyCatalogue:
    num_items = NUM_ITEMS
    dense_names: tuple[str, ...] = ()
    categorical_names: tuple[str, ...] = ()
    vocab_sizes: tuple[int, ...] = ()

    def features(self, item_id: Tensor, snapshot: Tensor | None = None) -> ItemFeatures:
        del snapshot
        shape = item_id.shape
        return ItemFeatures(
            dense=torch.zeros(*shape, 0), categorical=torch.zeros(*shape, 0, dtype=torch.int64)
        )


class TinyWorld(BatchedSessions):
    def __init__(self) -> None:
        super().__init__(
            catalogue=TinyCatalogue(),
            tasks=("click", "like"),
            reward_weights={"click": 1.0},
            horizon=8,
            history_length=LENGTH,
        )

    def _begin(self, streams: SessionStreams) -> tuple[SessionState, Hidden]:
        num = len(streams.seeds)
        zero = torch.zeros(num, dtype=torch.int64)
        state = SessionState(
            user_id=streams.seeds % 1000,
            user_features=streams.uniform(zero, 2, LANE_BEGIN),
            history_item_id=torch.zeros(num, LENGTH, dtype=torch.int64),
            history_feedback=torch.zeros(num, LENGTH, 2, dtype=torch.bool),
            history_dwell_s=torch.zeros(num, LENGTH),
            history_gap_s=torch.zeros(num, LENGTH),
            history_mask=torch.zeros(num, LENGTH, dtype=torch.bool),
            gap_s=torch.zeros(num),
            step=zero,
            batch_size=[num],
        )
        return state, {"mood": streams.uniform(zero, 1, LANE_BEGIN)[:, 0]}

    def _respond(
        self, state: SessionState, hidden: Hidden, item_id: Tensor, streams: SessionStreams
    ) -> tuple[Response, Hidden]:
        draws = streams.uniform(state.step, 4, LANE_WORLD)
        feedback = torch.stack([draws[:, 0] < CLICK[item_id], draws[:, 1] < 0.5], 1)
        response = Response(
            feedback=feedback,
            dwell_s=10 * draws[:, 2],
            left=draws[:, 3] < LEAVE[item_id],
            batch_size=[len(item_id)],
        )
        return response, {"mood": (hidden["mood"] + 0.1) % 1.0}


class TinyPool:
    """Items 0 to 11, the last slot padding where the step is odd."""

    def candidates(self, state: SessionState, streams: SessionStreams) -> Candidates:
        num = len(streams.seeds)
        mask = torch.ones(num, 12, dtype=torch.bool)
        mask[:, -1] = state.step % 2 == 0
        items = torch.arange(12).expand(num, 12).contiguous()
        return Candidates(
            item_id=items, mask=mask, log_propensity=torch.zeros(num, 12), batch_size=[num]
        )


class TinyNetwork(nn.Module):
    """Frozen click probabilities plus a residual that begins at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.ranker = nn.Embedding.from_pretrained(CLICK[:, None].clone(), freeze=True)
        generator = torch.Generator().manual_seed(5)
        self.hidden = nn.Linear(NUM_ITEMS + 2, 16)
        with torch.no_grad():
            for parameter in self.hidden.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        self.residual = nn.Linear(16, 1)
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)

    def q_values(self, state: SessionState, item_id: Tensor) -> tuple[Tensor, Tensor]:
        utility = self.ranker(item_id)[..., 0]
        context = torch.stack([state.step / 8, state.history_dwell_s.mean(1) / 10], 1)
        context = context[:, None].expand(*item_id.shape, 2)
        one_hot = nn.functional.one_hot(item_id, NUM_ITEMS).float()
        hidden = torch.relu(self.hidden(torch.cat([one_hot, context], -1)))
        return utility + self.residual(hidden)[..., 0], utility


@dataclass(kw_only=True)
class NanNetworkRecipe:
    """A network whose residual is not a number."""

    def __call__(self) -> TinyNetwork:
        network = TinyNetwork()
        nn.init.constant_(network.residual.bias, float("nan"))
        return network


PROBLEM = SessionProblem(environment=TinyWorld, candidates=TinyPool, network=TinyNetwork)


def settings(**changes) -> TrainingConfig:
    """Small enough to run in a second."""
    small = {
        "n_step": 1,  # most sessions are short, and a bootstrap should matter
        "num_env_steps": 1500,
        "steps_per_iteration": 500,
        "num_sessions": 16,
        "rollout_length": 4,
        "env_steps_per_update": 50,
        "batch_size": 32,
        "replay_capacity": 800,
        "learning_starts": 100,
        "target_update_every": 7,
        "target_subset_size": 8,
        "support_ratio": 0.5,
        "subset_size": 5,
        "checkpoint_every": 1,
    }
    return TrainingConfig(**(small | changes))
