r"""The session ranker: encodes a state once, scores K candidates against it.

Symbols: `B` states, `L` history events, `K` candidates, `H` tasks, `D` width, `F` item features.

    state --> events_BLD --> pooled by decay rates, in session and over all --> state_BS (once)
                       \-> keys_BLD, values_BLD                                  (once)
    item  --> item vector_BKD, a row of a precomputed table
    score  =  MLP(state part + item part + event part), event part = sum_l g(q . k_l) v_l

The candidate's attention to the history is a sum under a sigmoid gate, not a softmax: how often
a topic was seen must stay visible, and a softmax normalises it away (the point of DIN, Zhou et
al., KDD 2018, section 4.3). Candidate and history items go through one projection to the unit
sphere, so that from the first update the gate opens for events like the candidate. The rest of
the architecture is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recomind.ranker.config import RankerConfig
from recomind.streams import hash_int64
from recomind.types import Catalogue, SessionState

_INITIAL_DECAY = (0.02, 0.2, 1.0)  # per event; learned from there
_CATEGORY_DIM = 8
_AGE_SCALES = (4.0, 15.0)  # events; how fast the two age features of an event fade
_EVENT_EXTRAS = 3 + len(_AGE_SCALES)  # log dwell, minutes, in session


@dataclass(slots=True)
class StateEncoding:
    """What scoring needs of `B` states."""

    hidden_BM: Tensor  # state part of the scoring network's first layer
    keys_BLD: Tensor
    values_BLD: Tensor
    bias_BL: Tensor  # recency bias of the gate; -inf where there is no event

    def repeat(self, num: int) -> StateEncoding:
        """Each state `num` times, in place of encoding it `num` times."""
        return StateEncoding(
            *(x.repeat_interleave(num, dim=0) for x in
              (self.hidden_BM, self.keys_BLD, self.values_BLD, self.bias_BL))
        )  # fmt: skip


class ItemEncoder(nn.Module):
    """Item id and content to a vector [..., D]."""

    mean: Tensor  # [F], of the training rows
    scale: Tensor  # [F]

    def __init__(self, catalogue: Catalogue, config: RankerConfig) -> None:
        super().__init__()
        self.id_buckets, self.id_dropout = config.id_buckets, config.id_dropout
        self.id_table = nn.Embedding(config.id_buckets, _CATEGORY_DIM, sparse=True)
        nn.init.normal_(self.id_table.weight, std=0.01)
        self.categories = nn.ModuleList(
            nn.Embedding(size, _CATEGORY_DIM) for size in catalogue.vocab_sizes
        )
        num_dense = len(catalogue.dense_names)
        width = _CATEGORY_DIM * (1 + len(catalogue.vocab_sizes)) + num_dense
        self.net = nn.Sequential(
            nn.Linear(width, config.hidden), nn.GELU(), nn.Linear(config.hidden, config.dim)
        )
        self.register_buffer("mean", torch.zeros(num_dense))
        self.register_buffer("scale", torch.ones(num_dense))

    def forward(
        self, item_id: Tensor, catalogue: Catalogue, snapshot: Tensor | None = None
    ) -> Tensor:
        """Vectors [..., D] of `item_id` [...]."""
        features = catalogue.features(item_id, snapshot)
        by_id = self.id_table(hash_int64(item_id, 5).remainder(self.id_buckets))
        if self.training and self.id_dropout > 0:
            by_id = by_id * (torch.rand(item_id.shape) >= self.id_dropout)[..., None]
        parts = [by_id, (features.dense - self.mean) / self.scale]
        parts += [e(features.categorical[..., c]) for c, e in enumerate(self.categories)]
        return self.net(torch.cat(parts, dim=-1))


class SessionRanker(nn.Module):
    """The `Ranker` of this project. Build it with a catalogue; it implements the Protocol."""

    user_mean: Tensor  # [U], of the training rows
    user_scale: Tensor  # [U]
    calibration_slope: Tensor  # [H]
    calibration_offset: Tensor  # [H]

    def __init__(
        self,
        catalogue: Catalogue,
        tasks: tuple[str, ...],
        num_user_features: int,
        config: RankerConfig,
    ) -> None:
        super().__init__()
        self.catalogue, self.tasks, self.config = catalogue, tuple(tasks), config
        self.num_user_features = num_user_features
        dim, hidden, length = config.dim, config.hidden, config.history_length
        self.items = ItemEncoder(catalogue, config)
        self.event = nn.Linear(dim + len(tasks) + _EVENT_EXTRAS, dim)
        self.log_decay = nn.Parameter(torch.tensor(_INITIAL_DECAY).log())
        pooled = 2 * len(_INITIAL_DECAY) * dim
        self.state = nn.Sequential(
            nn.Linear(pooled + num_user_features + 2, 2 * hidden), nn.GELU(),
            nn.Dropout(config.dropout), nn.Linear(2 * hidden, hidden),
        )  # fmt: skip
        self.gate, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.log_sharpness = nn.Parameter(torch.tensor(5.0).log())
        self.recency = nn.Parameter(torch.full((length,), -2.0))
        self.session_bias = nn.Parameter(torch.zeros(()))
        self.item_part = nn.Linear(dim, hidden, bias=False)
        self.event_part = nn.Linear(dim, hidden, bias=False)
        self.cross = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(config.dropout)
        self.hidden = nn.Linear(hidden + dim, hidden)
        self.head = nn.Linear(hidden, len(tasks))
        self.register_buffer("user_mean", torch.zeros(num_user_features))
        self.register_buffer("user_scale", torch.ones(num_user_features))
        # Calibration, fitted on later days: logit -> slope * logit + offset, per task.
        self.register_buffer("calibration_slope", torch.ones(len(tasks)))
        self.register_buffer("calibration_offset", torch.zeros(len(tasks)))
        # Item half of scoring, per catalogue: vectors, their place on the gate's sphere, and their
        # part of the first layer.
        self._table: Tensor | None = None
        self._units = self._parts = torch.zeros(0)

    def precompute_items(self) -> SessionRanker:
        """Compute every item's vector once, where the catalogue is small enough; then eval."""
        self.eval()
        if self.catalogue.num_items <= self.config.max_table_items:
            with torch.no_grad():
                chunks = torch.arange(self.catalogue.num_items).split(65_536)
                self._table = torch.cat([self.items(c, self.catalogue) for c in chunks])
                self._units, self._parts = self._unit(self._table), self.item_part(self._table)
        return self

    def item_vectors(self, item_id: Tensor, snapshot: Tensor | None = None) -> Tensor:
        """Vectors [..., D]; from the table where there is one and the latest content is meant."""
        if self._table is not None and snapshot is None and not self.training:
            return nn.functional.embedding(item_id, self._table)
        return self.items(item_id, self.catalogue, snapshot)

    def encode_state(self, state: SessionState, snapshot: Tensor | None = None) -> StateEncoding:
        """Everything of `state` [B] that scoring needs."""
        mask_BL, in_session_BL = state.history_mask, state.in_session
        if snapshot is not None:
            snapshot = snapshot[:, None].expand_as(state.history_item_id)
        item_BLD = self.item_vectors(state.history_item_id, snapshot)
        event_BLD = self._events(state, item_BLD, in_session_BL) * mask_BL[..., None]
        pooled = self._pool(event_BLD, mask_BL, in_session_BL)
        step = state.step.float()
        progress = torch.stack([torch.log1p(step), step / 20.0], dim=-1)
        user = (state.user_features - self.user_mean) / self.user_scale
        hidden_BM = self.state(torch.cat([pooled, user, progress], dim=-1))
        bias_BL = self.recency[-mask_BL.shape[1] :] + self.session_bias * in_session_BL
        return StateEncoding(
            hidden_BM=hidden_BM,
            keys_BLD=self._unit(item_BLD),
            values_BLD=self.value(event_BLD),
            bias_BL=bias_BL.masked_fill(~mask_BL, -torch.inf),
        )

    def _unit(self, item_vectors: Tensor) -> Tensor:
        """Where an item stands on the unit sphere of the gate, [..., D]."""
        return nn.functional.normalize(self.gate(item_vectors), dim=-1)

    def _events(self, state: SessionState, item_BLD: Tensor, in_session_BL: Tensor) -> Tensor:
        """Event vectors [B, L, D]: the item, what was done with it, and how long ago."""
        dwell_s, length = state.history_dwell_s, state.history_mask.shape[1]
        age_L = torch.arange(length - 1, -1, -1, dtype=torch.float32)
        extras = [
            torch.log1p(dwell_s) / 3.0,
            (dwell_s / 60.0).clamp(max=5.0),
            in_session_BL.float(),
            *(torch.exp(-age_L / scale).expand_as(dwell_s) for scale in _AGE_SCALES),
        ]
        parts = [item_BLD, state.history_feedback.float(), torch.stack(extras, dim=-1)]
        return nn.functional.gelu(self.event(torch.cat(parts, dim=-1)))

    def _pool(self, event_BLD: Tensor, mask_BL: Tensor, in_session_BL: Tensor) -> Tensor:
        """Sums under exponential decay, over the session and over all: [B, 2 * R * D]."""
        length = mask_BL.shape[1]
        age_L = torch.arange(length - 1, -1, -1, dtype=torch.float32)
        weight_RL = torch.exp(-self.log_decay.exp()[:, None] * age_L) / length**0.5
        weights = torch.cat(
            [weight_RL * in_session_BL[:, None], weight_RL * mask_BL[:, None]], dim=1
        )
        return (weights @ event_BLD).flatten(1)

    def score(self, encoding: Any, item_id: Tensor, snapshot: Tensor | None = None) -> Tensor:
        """Calibrated logits [B, K, H] for `item_id` [B, K]; `encoding` is a `StateEncoding`."""
        item_BKD = self.item_vectors(item_id, snapshot)
        if snapshot is None and self._tables_hold():
            units = nn.functional.embedding(item_id, self._units)
            parts = nn.functional.embedding(item_id, self._parts)
            return self.head_logits(self._joint(encoding, item_BKD, units, parts))
        return self.head_logits(self.features(encoding, item_BKD))

    def _tables_hold(self) -> bool:
        """Whether the item half of scoring may come from tables: they exist, nothing learns."""
        learns = self.gate.weight.requires_grad or self.item_part.weight.requires_grad
        return self._table is not None and not self.training and not learns

    def features(self, encoding: StateEncoding, item_BKD: Tensor) -> Tensor:
        """The last hidden layer [B, K, M], on which heads stand."""
        return self._joint(encoding, item_BKD, self._unit(item_BKD), self.item_part(item_BKD))

    def _joint(
        self, encoding: StateEncoding, item_BKD: Tensor, unit_BKD: Tensor, part_BKM: Tensor
    ) -> Tensor:
        """`features` from the item half of the first layer.

        Sums go into the products that they follow (`addmm`, `baddbmm`): between them, additions
        and copies of [B, K, M] cost as much as the products themselves.
        """
        shape = part_BKM.shape
        keys_BDL = encoding.keys_BLD.mT * self.log_sharpness.exp()
        bias_BKL = encoding.bias_BL[:, None].expand(-1, shape[1], -1)
        gate_BKL = torch.baddbmm(bias_BKL, unit_BKD, keys_BDL).sigmoid_()
        seen_BKD = gate_BKL @ encoding.values_BLD
        first = torch.addmm(
            part_BKM.flatten(0, 1), seen_BKD.flatten(0, 1), self.event_part.weight.mT
        )
        first_BKM = self.dropout(first.view(shape).add_(encoding.hidden_BM[:, None]).relu_())
        of_first, of_cross = self.hidden.weight.split([shape[2], item_BKD.shape[2]], dim=1)
        joint_BKM = nn.functional.linear(first_BKM, of_first, self.hidden.bias)
        # (c * item) W = item (c * W): a small matrix per state in place of a product per candidate.
        cross_BDM = self.cross(encoding.hidden_BM)[:, :, None] * of_cross.mT
        return joint_BKM.baddbmm_(self.dropout(item_BKD), cross_BDM).relu_()

    def head_logits(self, features_BKM: Tensor) -> Tensor:
        """Calibrated logits [B, K, H]."""
        return self.head(features_BKM) * self.calibration_slope + self.calibration_offset


def utility(logits: Tensor, weights_H: Tensor) -> Tensor:
    """Weighted sum of the tasks' probabilities: logits [..., H] -> [...]."""
    return logits.sigmoid() @ weights_H
