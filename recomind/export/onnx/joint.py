"""The scoring of candidates as few large products: what a graph is traced from.

The frozen ranker and the trunk score the same candidates from the same item vectors, so that one
look-up serves both, and what does not depend on the candidate is multiplied into the weights, once
a state. With `x` = [v | 1], the item's vector and a one:

    gate    = sigmoid(|G v + g|^-1  x [K G | K g]  +  bias)         unit(v) . key, for every event
    first   = relu([x | gate] [P ; hidden ; V E])                   item, state and what is seen
    last    = relu([first | x] [W ; c * W' ; b])                    c: the state's cross

These are the numbers of `SessionRanker.joint` except for rounding. Histories that are longer than
the recent events are left to that, since a candidate attends to the nearest of the old ones. Ours.

Symbols: `B` states, `L` events, `K` candidates, `N` items, `n` networks, `D` width, `X` = D + 1,
`M` hidden width, `H` tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recomind.policy import QNetwork
from recomind.ranker import SessionRanker, StateEncoding


class FusedJoint(nn.Module):
    """The last hidden layers of several rankers over the same item vectors.

    Args:
        networks: with tables of all items; the first also gives the items' part of the logits.
    """

    table: Tensor  # [N, X + n + H]: vector, one, inverse norms, items' part of the logits

    def __init__(self, networks: Sequence[SessionRanker]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        table = networks[0].table
        assert table is not None  # `is_fusible`
        vector_ND = table.vector
        norms = [each.gate(vector_ND).norm(dim=-1, keepdim=True) for each in networks]
        inverse = [1.0 / norm.clamp(min=1e-12) for norm in norms]
        one = torch.ones(len(vector_ND), 1)
        self.sizes = [vector_ND.shape[1] + 1, len(networks), table.wide.shape[1]]
        columns = [vector_ND, one, *inverse, table.wide]
        self.register_buffer("table", torch.cat(columns, dim=1).detach(), persistent=False)

    def forward(
        self, encodings: Sequence[StateEncoding], item_id: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """The last hidden layer [B, K, M] of each network, and the items' part [B, K, H]."""
        rows = nn.functional.embedding(item_id, self.table)
        x_BKX, inverse_BKn, wide_BKH = rows.split(self.sizes, dim=-1)
        pairs = list(zip(self._rankers(), encodings, strict=True))
        gates = self._gates(pairs, x_BKX, inverse_BKn).unbind(2)
        return [
            _joint(ranker, encoding, x_BKX, gate_BKL)
            for (ranker, encoding), gate_BKL in zip(pairs, gates, strict=True)
        ], wide_BKH

    def _rankers(self) -> list[SessionRanker]:
        return list(self.networks)  # type: ignore[arg-type]

    def _gates(
        self,
        pairs: Sequence[tuple[SessionRanker, StateEncoding]],
        x_BKX: Tensor,
        inverse_BKn: Tensor,
    ) -> Tensor:
        """[B, K, n, L]."""
        keys, biases = [], []
        for ranker, encoding in pairs:
            keys_BLD = encoding.keys_BLD * ranker.log_sharpness.exp()
            of_one_BL1 = keys_BLD @ ranker.gate.bias[:, None]
            keys.append(torch.cat([keys_BLD @ ranker.gate.weight, of_one_BL1], dim=-1))
            biases.append(encoding.bias_BL)
        logits = x_BKX @ torch.cat(keys, dim=1).mT
        logits_BKnL = logits.unflatten(-1, (len(pairs), -1)) * inverse_BKn[..., None]
        return (logits_BKnL + torch.stack(biases, dim=1)[:, None]).sigmoid()


def _joint(
    ranker: SessionRanker, encoding: StateEncoding, x_BKX: Tensor, gate_BKL: Tensor
) -> Tensor:
    """The last hidden layer [B, K, M]."""
    hidden_BM, layer = encoding.hidden_BM, ranker.hidden
    batch, width = hidden_BM.shape
    item_BDM = ranker.item_part.weight.mT.expand(batch, -1, -1)
    events_BLM = encoding.values_BLD @ ranker.event_part.weight.mT
    first_weights = torch.cat([item_BDM, hidden_BM[:, None], events_BLM], dim=1)
    first_BKM = (torch.cat([x_BKX, gate_BKL], dim=-1) @ first_weights).relu()
    of_first, of_cross = layer.weight.split([width, x_BKX.shape[-1] - 1], dim=1)
    cross_BDM = ranker.cross(hidden_BM)[:, :, None] * of_cross.mT
    last_weights = torch.cat(
        [
            of_first.mT.expand(batch, -1, -1),
            cross_BDM,
            layer.bias.expand(batch, 1, -1),
        ],
        dim=1,
    )
    return (torch.cat([first_BKM, x_BKX], dim=-1) @ last_weights).relu()


def is_fusible(networks: Sequence[SessionRanker]) -> bool:
    """Whether they look items up in equal tables, and attend to recent events alone."""
    tables = [each.table for each in networks]
    recent = all(n.config.history_length <= n.config.recent_length for n in networks)
    first = tables[0]
    if first is None or not recent:
        return False
    return all(t is not None and torch.equal(t.vector, first.vector) for t in tables)


class FusedScores(nn.Module):
    """Q and utility of a policy on a ranker of ours.

    Args:
        network: for which `fused_scores` has seen that it can be had.
    """

    def __init__(self, network: QNetwork, frozen: SessionRanker) -> None:
        super().__init__()
        self.network, self.frozen = network, frozen
        self.joint = FusedJoint([frozen, network.trunk])

    def forward(
        self, frozen: StateEncoding, trunk: StateEncoding, item_id: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Each [B, K], as `QNetwork.score_encoded` but for rounding."""
        (ours_BKM, trunk_BKM), wide_BKH = self.joint([frozen, trunk], item_id)
        utility_BK = fused_utility(self.frozen, ours_BKM, wide_BKH, frozen, self.network.weights_H)
        return self.network.q_of(trunk_BKM, utility_BK, trunk, item_id), utility_BK


def fused_utility(
    ranker: SessionRanker,
    joint_BKM: Tensor,
    wide_BKH: Tensor,
    encoding: StateEncoding,
    weights_H: Tensor,
) -> Tensor:
    """The ranker's utility [B, K] of its last hidden layer.

    The product is with a column: with a vector, ONNX Runtime takes ten times as long.
    """
    logits_BKH = ranker.head(joint_BKM) + (wide_BKH + encoding.wide_BH[:, None])
    return (ranker.calibration(logits_BKH).sigmoid() @ weights_H[:, None])[..., 0]


def fused_scores(network: QNetwork) -> FusedScores | None:
    """The fused scoring of a policy on a ranker of ours; None where there is none."""
    frozen = network.frozen
    if not isinstance(frozen, SessionRanker) or not is_fusible([frozen, network.trunk]):
        return None
    return FusedScores(network, frozen)
