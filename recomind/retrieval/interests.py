"""Several query vectors for a user with several interests.

Symbols: `B` states, `L` latest events, `D` length of a vector, `C` interests, `Q` = C + 1 queries,
`K` items found by each.

The vectors of the liked events are clustered by Ward's method, as in Pal et al., "PinnerSage:
multi-modal user embedding framework for recommendations at Pinterest" (KDD 2020, section 4). There
a cluster's query is its medoid. Here it is the user tower's vector for a user who liked only that
cluster (ours): the towers' inner products are trained between user and item, never between two
items, and in the embedded world a medoid found far fewer of the later positives.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.data import first_occurrence
from recomind.retrieval.two_tower import TwoTower, liked_events
from recomind.types import SessionState


def ward_clusters(vectors_BLD: Tensor, mask_BL: Tensor, num: int) -> Tensor:
    """Merge the two closest clusters of each row until `num` are left.

    The distance is the increase of the squared error, updated by the formula of Lance and Williams
    (1967). All rows are processed at once; the loop is over merges, at most L - num.

    Returns:
        [B, L] int64, the first event of each event's cluster; the event's own place where the mask
        is False.
    """
    length = mask_BL.shape[1]
    size_BL = mask_BL.double()
    label_BL = torch.arange(length, device=mask_BL.device).expand(mask_BL.shape).clone()
    cost_BLL = torch.cdist(vectors_BLD.double(), vectors_BLD.double()).square() / 2
    diagonal_LL = torch.eye(length, dtype=torch.bool, device=mask_BL.device)
    pair_BLL = mask_BL[:, :, None] & mask_BL[:, None, :] & ~diagonal_LL
    cost_BLL = cost_BLL.masked_fill(~pair_BLL, torch.inf)
    for _ in range(length - num):
        row = ((size_BL > 0).sum(1) > num).nonzero()[:, 0]
        if not len(row):
            break
        _merge_closest(row, cost_BLL, size_BL, label_BL)
    return label_BL


def _merge_closest(row: Tensor, cost_BLL: Tensor, size_BL: Tensor, label_BL: Tensor) -> None:
    """One merge in each row, in place; the earlier of two clusters keeps its place."""
    length = size_BL.shape[1]
    cost, size = cost_BLL[row], size_BL[row]
    closest = cost.flatten(1).argmin(1)
    one, two = closest // length, closest % length
    one, two = torch.minimum(one, two), torch.maximum(one, two)
    at = torch.arange(len(row), device=row.device)
    size_one, size_two = size[at, one, None], size[at, two, None]
    grown = (size_one + size) * cost[at, one] + (size_two + size) * cost[at, two]
    merged = (grown - size * cost[at, one, two, None]) / (size_one + size_two + size)
    merged = torch.where(cost[at, one].isinf() | cost[at, two].isinf(), torch.inf, merged)
    cost_BLL[row, one] = merged
    cost_BLL[row, :, one] = merged
    cost_BLL[row, two] = torch.inf
    cost_BLL[row, :, two] = torch.inf
    size_BL[row, one] += size_BL[row, two]
    size_BL[row, two] = 0.0
    labels = label_BL[row]
    label_BL[row] = torch.where(labels == two[:, None], one[:, None], labels)


def interests(model: TwoTower, history_BLD: Tensor, liked_BL: Tensor, num: int) -> Tensor:
    """[B, C, L] bool: events of each of `num` interests, the most recent one first.

    A user with fewer liked events has fewer interests; the others are empty.
    """
    label_BL = ward_clusters(history_BLD, liked_BL, num)
    importance_BL = torch.zeros(label_BL.shape, device=label_BL.device)
    importance_BL = importance_BL.scatter_add(1, label_BL, model.recency(liked_BL))
    first_BC = importance_BL.argsort(dim=1, descending=True, stable=True)[:, :num]
    return (label_BL[:, None, :] == first_BC[:, :, None]) & liked_BL[:, None, :]


def interest_queries(
    model: TwoTower, state: SessionState, history_BLD: Tensor, own_BD: Tensor, num: int
) -> Tensor:
    """Unit query vectors [B, Q, D]: the state's own first, then `num` interests.

    Args:
        model: both towers.
        state: [B].
        history_BLD: vectors of its latest events.
        own_BD: its own query, which replaces missing interests.
        num: interests, at least 2; a single one would equal the state's own query.
    """
    length = history_BLD.shape[1]
    num = min(num, length)
    member_BCL = interests(model, history_BLD, liked_events(state, length), num)
    user_nU = state.user_features.repeat_interleave(num, dim=0)
    history_nLD = history_BLD.repeat_interleave(num, dim=0)
    query_nD = model.users_liking(user_nU, history_nLD, member_BCL.flatten(0, 1))
    query_BCD = query_nD.unflatten(0, (-1, num))
    query_BCD = torch.where(member_BCL.any(2)[..., None], query_BCD, own_BD[:, None])
    return torch.cat([own_BD[:, None], query_BCD], dim=1)


def round_robin(found_BQK: Tensor, num: int) -> Tensor:
    """The best of each query in turn, then the second best of each: ids [B, num], each once.

    Cosines of different queries are not comparable: by score, the query of the widest interest
    would take most slots. -1 (no item) goes last.
    """
    in_turn_BM = found_BQK.transpose(1, 2).flatten(1)
    kept_BM = first_occurrence(in_turn_BM) & (in_turn_BM >= 0)
    kept_first = (~kept_BM).to(torch.uint8).argsort(dim=1, stable=True)[:, :num]
    return in_turn_BM.masked_fill(~kept_BM, -1).gather(1, kept_first)
