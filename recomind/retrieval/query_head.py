"""A query that was distilled from the policy's values: the towers' own plus a correction.

Symbols: `B` states, `L` latest events, `D` length of a vector, `U` user features.

    query = unit length of  own [D] + head( own [D] ++ liked [2 D] ++ seen [2 D] ++ share ++ [U] )

liked and seen are two means each (`TwoTower.event_means`) over the vectors of the latest events:
of those with a positive first task, and of all. share is the share of the latest events that belong
to the present session. The last layer starts at zero, so an untrained head changes nothing. Item
tower and index are unchanged. Ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from recomind.retrieval.two_tower import TowerShape, TwoTower, liked_events
from recomind.types import SessionState


class QueryHead(nn.Module):
    """The correction of the towers' own query; weights are drawn from `generator`."""

    def __init__(self, shape: TowerShape, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.hidden = hidden
        num_in = 5 * shape.dim + 1 + shape.num_user_features
        self.first, self.last = nn.Linear(num_in, hidden), nn.Linear(hidden, shape.dim)
        bound = num_in**-0.5
        nn.init.uniform_(self.first.weight, -bound, bound, generator=generator)
        for zero in (self.first.bias, self.last.weight, self.last.bias):
            nn.init.zeros_(zero)

    def forward(self, input_BI: Tensor) -> Tensor:
        """Unit vectors [B, D], given `head_input`."""
        own_BD = input_BI[:, : self.last.out_features]
        return functional.normalize(own_BD + self.last(self.first(input_BI).relu()), dim=-1)


def head_input(model: TwoTower, state: SessionState, history_BLD: Tensor) -> Tensor:
    """Input of the head for `state` [B], given the vectors of its latest `L` events."""
    length = history_BLD.shape[1]
    own_BD = model.users(state, history_BLD)
    liked = model.event_means(history_BLD, liked_events(state, length))
    seen = model.event_means(history_BLD, state.history_mask[:, -length:])
    share_B1 = state.in_session[:, -length:].float().mean(1, keepdim=True)
    return torch.cat([own_BD, *liked, *seen, share_B1, state.user_features], dim=1)
