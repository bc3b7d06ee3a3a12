r"""The session ranker: encodes a state once, scores K candidates against it.

Symbols: `B` states, `L` history events, `T` recent ones, `K` candidates, `H` tasks, `D` width,
`M` hidden width, `U` user features.

    state --> events_BLD --> causal transformer over the recent T --> keys, values     (once)
                        \--> sums under decay, user, progress --> hidden_BM, wide_BH    (once)
    item  --> vector_D, its place on the unit sphere, its part of the first layer   (a table)
    score  =  MLP(state part + item part + event part) + wide parts

The candidate attends to the cached keys and values of the history (deduplicated cross-attention:
PinFM, arXiv:2507.12704), with sigmoid weights, not a softmax: how often a topic was seen must stay
visible, and a softmax normalises it away (the point of DIN, Zhou et al., KDD 2018, section
4.3). Among events older than the recent ones, it attends only to those nearest to it
(TransAct V2, arXiv:2506.02267). Candidate and history items go through one projection to the unit
sphere, so that from the first update a candidate attends to events like itself. The wide parts
are additive in each number (Wide & Deep, Cheng et al., 2016). The rest is ours.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recomind.adapters import ExternalConfig
from recomind.ranker.attention import gated_sum, gated_sum_of_nearest
from recomind.ranker.calibration import Calibration
from recomind.ranker.config import RankerConfig
from recomind.ranker.config_json import config_to_json
from recomind.ranker.dropout import BitDropout
from recomind.ranker.encodings import ItemEncoding, StateEncoding
from recomind.ranker.history import (
    NUM_PROGRESS,
    CausalTransformer,
    DecayPool,
    EventEncoder,
    Events,
    StateParts,
    event_numbers,
    events_of,
    num_tallies,
    state_parts,
    tallies,
)
from recomind.ranker.item_tower import ItemTower
from recomind.ranker.items import ItemEncoder, padded
from recomind.ranker.numbers import PiecewiseLinear
from recomind.ranker.products import add_product
from recomind.types import Catalogue, SessionState

# (state [B], pooled events [B, S], parts of the state) -> the state part of the scoring network's
# first layer [B, M], and of the logits [B, H].
UserParts = Callable[[SessionState, Tensor, StateParts], tuple[Tensor, Tensor]]


class SessionRanker(ItemTower):
    """The `Ranker` of this project. Build it with a catalogue; it implements the Protocol."""

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
        dim, hidden, num_tasks = config.dim, config.hidden, len(tasks)
        self.items = ItemEncoder(catalogue, config)
        num_numbers = num_user_features + num_tallies(num_tasks)
        self.users = PiecewiseLinear(num_numbers, config.num_bins)
        self.events = EventEncoder(num_tasks, config)
        self.transformer = CausalTransformer(config)
        self.pool = DecayPool()
        pooled = self.pool.num_sums * dim
        self.state = nn.Sequential(
            nn.Linear(pooled + self.users.width + NUM_PROGRESS, 2 * hidden),
            nn.GELU(),
            BitDropout(config.dropout),
            nn.Linear(2 * hidden, hidden),
        )
        self.gate, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.log_sharpness = nn.Parameter(torch.tensor(5.0).log())
        self.recency = nn.Parameter(torch.full((config.recent_length,), -2.0))
        self.old_bias = nn.Parameter(torch.tensor(-3.0))
        self.session_bias = nn.Parameter(torch.zeros(()))
        self.next_action = nn.Linear(dim, dim)
        self.item_part = nn.Linear(dim, hidden, bias=False)
        self.event_part = nn.Linear(dim, hidden, bias=False)
        self.cross = nn.Linear(hidden, dim)
        self.dropout = BitDropout(config.dropout)
        self.hidden = nn.Linear(hidden + dim, hidden)
        self.head = nn.Linear(hidden, num_tasks)
        self.wide_user = nn.Linear(self.users.width, num_tasks)
        self.wide_item = nn.Linear(self.items.numbers.width, num_tasks, bias=False)
        for wide in (self.wide_user, self.wide_item):
            nn.init.zeros_(wide.weight)
        self.calibration = Calibration(num_tasks)

    @property
    def own_ranker(self) -> SessionRanker:
        """See `recomind.ranker.capabilities`, as for the four below."""
        return self

    @property
    def two_tower_ranker(self) -> SessionRanker:
        """Itself."""
        return self

    @property
    def incremental_ranker(self) -> SessionRanker | None:
        """Itself where an event's vectors depend on the event alone; None in training mode."""
        return None if self.training or self.transformer.layers else self

    @property
    def scores_runs(self) -> bool:
        """Whether a log is scored run by run: see `recomind.ranker.runs`."""
        config = self.config
        return config.run_length > 1 and not (config.session_batches or self.transformer.layers)

    def own_encoding(self, encoding: StateEncoding) -> StateEncoding:
        """The encoding itself."""
        return encoding

    def frozen_copy(self) -> SessionRanker:
        """A copy of the weights that does not learn."""
        return self.copied().requires_grad_(False)

    def copied(self) -> SessionRanker:
        """A copy of the weights; the catalogue and the table computed from it are shared."""
        shared = [self.catalogue, self.table]
        twin = copy.deepcopy(self, {id(thing): thing for thing in shared if thing is not None})
        return twin.eval() if self.table is not None else twin.precompute_items()

    def artifact_recipe(self, staging: Path) -> dict[str, Any]:
        """What rebuilds it beside its weights and the catalogue."""
        del staging
        # An external ranker beside it is described where it is used, paths not at all.
        config = replace(self.config, external=ExternalConfig(), start_from="")
        return {
            "kind": "session",
            "tasks": list(self.tasks),
            "num_user_features": self.num_user_features,
            "config": config_to_json(config),
        }

    def encode_state(self, state: SessionState, snapshot: Tensor | None = None) -> StateEncoding:
        """Everything of `state` [B] that scoring needs; `snapshot` [B] dates the content."""
        return self.encode(state, snapshot)[0]

    def encode(
        self,
        state: SessionState,
        snapshot: Tensor | None = None,
        event_row_BL: Tensor | None = None,
    ) -> tuple[StateEncoding, Tensor]:
        """The encoding, and the recent events in context [B, T, D].

        Args:
            state: [B].
            snapshot: [B], dates the content; the latest where it is None.
            event_row_BL: which event of a log each is, -1 for none. States of one session have
                most of their events in common, which are then encoded once, not once a state;
                without effect where there is a transformer, whose events depend on their window.
        """
        if snapshot is not None:
            snapshot = snapshot[:, None].expand_as(state.history_item_id)
        events = events_of(state)
        if event_row_BL is None or self.transformer.layers:
            event_BLD, keys_BLD, values_BLD = self.encode_events(events, snapshot)
        else:
            event_BLD, keys_BLD, values_BLD = self._shared_events(events, snapshot, event_row_BL)
        encoding = self.encoding_of(state, (event_BLD, keys_BLD, values_BLD), state_parts(state))
        return encoding, event_BLD[:, -self.config.recent_length :]

    def encoding_of(
        self,
        state: SessionState,
        events: tuple[Tensor, ...],
        parts: StateParts,
        of_users: UserParts | None = None,
    ) -> StateEncoding:
        """The encoding of `state` [B], given its events.

        Args:
            state: [B].
            events: in context, their keys and their values, each a ring [B, L, D].
            parts: of the state; they say where the rings begin.
            of_users: the layers over pool, user and progress, where their static part is kept.
        """
        event_BLD, keys_BLD, values_BLD = events
        layers = self._over_users if of_users is None else of_users
        hidden_BM, wide_BH = layers(state, self.pool(event_BLD, parts), parts)
        first, inside_BL, mask_BL = parts.first, parts.inside_BL, parts.mask_BL
        if first and mask_BL.shape[1] > self.config.recent_length:  # old and recent stand apart
            keys_BLD, values_BLD = keys_BLD.roll(-first, 1), values_BLD.roll(-first, 1)
            first, inside_BL, mask_BL = 0, state.in_session, state.history_mask
        return StateEncoding(
            hidden_BM=hidden_BM,
            wide_BH=wide_BH,
            keys_BLD=keys_BLD,
            values_BLD=values_BLD,
            bias_BL=self._bias(inside_BL, mask_BL, first),
        )

    def _over_users(
        self, state: SessionState, pooled_BS: Tensor, parts: StateParts
    ) -> tuple[Tensor, Tensor]:
        """The state part of the scoring network's first layer [B, M], and of the logits [B, H]."""
        user = self.users(torch.cat([state.user_features, parts.tallies_BT], dim=-1))
        inputs = torch.cat([pooled_BS, user, parts.progress_B5], dim=-1)
        return self.state(inputs), self.wide_user(user)

    def event_sources(self) -> Iterator[object]:
        """All that the vectors of an event depend on beside the event."""
        yield from (self.events, self.value, self.gate, self.table, self.catalogue)
        if self.table is None and self.item_cache is not None:
            yield from self.item_cache.weights
        elif self.table is None:
            yield self.items

    def encode_events(
        self, events: Events, snapshot_BL: Tensor | None = None, numbers: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Events in context, keys and values, each [B, L, D]; `numbers` are `event_numbers`."""
        item_BLD, keys_BLD = self._history_items(events.history_item_id, snapshot_BL)
        numbers = event_numbers(events) if numbers is None else numbers
        event_BLD = self.events(item_BLD, numbers, events.history_mask)
        if self.transformer.layers:
            num_old = max(0, event_BLD.shape[1] - self.config.recent_length)
            recent_BTD = self.transformer(event_BLD[:, num_old:], events.history_mask[:, num_old:])
            event_BLD = torch.cat([event_BLD[:, :num_old], recent_BTD], dim=1)
        return event_BLD, keys_BLD, self.value(event_BLD)

    def _shared_events(
        self, events: Events, snapshot_BL: Tensor | None, event_row_BL: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same without a transformer, each different event encoded once.

        An event is another one when it was in the session and when it was before it, and when
        the content of its item is of another day.
        """
        same_BL = event_row_BL * 2 + events.in_session
        if snapshot_BL is not None:
            same_BL = same_BL * (int(snapshot_BL.max()) + 1) + snapshot_BL
        same_BL = same_BL.masked_fill(event_row_BL < 0, -1)
        unique, inverse_BL = torch.unique(same_BL, return_inverse=True)
        one = torch.zeros_like(padded(unique))  # a place of each; of padding, the first place
        one.scatter_(0, inverse_BL.flatten(), torch.arange(same_BL.numel(), device=one.device))
        item_nD, keys_nD = self._history_items(
            events.history_item_id.flatten()[one],
            None if snapshot_BL is None else snapshot_BL.flatten()[one],
        )
        numbers, mask = event_numbers(events).flatten(0, 1)[one], events.history_mask.flatten()[one]
        event_nD = self.events(item_nD, numbers, mask)
        parts = (event_nD, keys_nD, self.value(event_nD))
        event_BLD, keys_BLD, values_BLD = (nn.functional.embedding(inverse_BL, p) for p in parts)
        return event_BLD, keys_BLD, values_BLD

    def _bias(self, inside_BL: Tensor, mask_BL: Tensor, first: int = 0) -> Tensor:
        """The attention's bias [B, L]: learned by recency, one for all old events; -inf for none.

        The events are a ring, in which the oldest one stands at `first`.
        """
        num_old = max(0, mask_BL.shape[1] - self.config.recent_length)
        by_age_L = torch.cat(
            [self.old_bias.expand(num_old), self.recency[-(mask_BL.shape[1] - num_old) :]]
        )
        bias_BL = by_age_L.roll(first) + self.session_bias * inside_BL
        return bias_BL.masked_fill(~mask_BL, -torch.inf)

    def score(self, encoding: Any, item_id: Tensor, snapshot: Tensor | None = None) -> Tensor:
        """Calibrated logits [B, K, H] of `item_id` [B, K]; `encoding` is a `StateEncoding`."""
        items = self.encode_items(item_id, snapshot)
        return self.logits(self.joint(encoding, items), encoding, items)

    def logits(self, joint_BKM: Tensor, encoding: StateEncoding, items: ItemEncoding) -> Tensor:
        """Calibrated logits [B, K, H] of the last hidden layer."""
        logits = self.head(joint_BKM)
        return self.calibration(logits.add_(items.wide).add_(encoding.wide_BH[:, None]))

    def features(self, encoding: StateEncoding, item_BKD: Tensor) -> Tensor:
        """The last hidden layer [B, K, M], on which heads stand, from items' vectors."""
        return self.joint(encoding, self.tower_from_vectors(item_BKD))

    def joint(self, encoding: StateEncoding, items: ItemEncoding) -> Tensor:
        """The last hidden layer [B, K, M].

        Sums go into the products that they follow (`addmm`, `baddbmm`): between them, additions
        and copies of [B, K, M] cost as much as the products themselves.
        """
        seen_BKD, hidden_BM = self._seen(encoding, items.unit), encoding.hidden_BM
        if items.part.shape[1] == 1:
            return self.joint_of_one(seen_BKD[:, 0], hidden_BM, items.only())[:, None]
        shape = items.part.shape
        first_BKM = self._first(seen_BKD.flatten(0, 1), items.part.flatten(0, 1)).view(shape)
        first_BKM = self.dropout(first_BKM.add_(hidden_BM[:, None]).relu_())
        of_first, of_cross = self.hidden.weight.split([shape[2], items.vector.shape[2]], dim=1)
        joint_BKM = nn.functional.linear(first_BKM, of_first, self.hidden.bias)
        cross_BD, vector_BKD = self.cross(hidden_BM), self.dropout(items.vector)
        # (c * item) W = item (c * W): a small matrix per state in place of a product per candidate.
        return joint_BKM.baddbmm_(vector_BKD, cross_BD[:, :, None] * of_cross.mT).relu_()

    def joint_of_one(self, seen_BD: Tensor, hidden_BM: Tensor, items: ItemEncoding) -> Tensor:
        """The last hidden layer [B, M] of one candidate each, items [B], and what it sees."""
        first_BM = self.dropout(self._first(seen_BD, items.part).add_(hidden_BM).relu_())
        crossed_BD = self.cross(hidden_BM) * self.dropout(items.vector)
        sizes = [first_BM.shape[1], crossed_BD.shape[1]]
        of_first, of_cross = self.hidden.weight.split(sizes, dim=1)
        joint_BM = nn.functional.linear(first_BM, of_first, self.hidden.bias)
        return add_product(joint_BM, crossed_BD, of_cross.mT).relu_()

    def _first(self, seen_nD: Tensor, part_nM: Tensor) -> Tensor:
        return torch.addmm(part_nM, seen_nD, self.event_part.weight.mT)

    def _seen(self, encoding: StateEncoding, unit_BKD: Tensor) -> Tensor:
        """What the candidates see of the history [B, K, D]: of old events, the nearest alone."""
        keys_BLD, values_BLD, bias_BL = encoding.keys_BLD, encoding.values_BLD, encoding.bias_BL
        num_old = max(0, keys_BLD.shape[1] - self.config.recent_length)
        sharpness = self.log_sharpness.exp()
        recent, old = slice(num_old, None), slice(num_old)
        recent_BKD = gated_sum(
            unit_BKD, keys_BLD[:, recent], values_BLD[:, recent], bias_BL[:, recent], sharpness
        )
        if num_old == 0:
            return recent_BKD
        return recent_BKD + gated_sum_of_nearest(
            unit_BKD,
            keys_BLD[:, old],
            values_BLD[:, old],
            bias_BL[:, old],
            sharpness,
            num_nearest=self.config.num_nearest,
        )


def user_numbers(state: SessionState) -> Tensor:
    """Numbers [B, U + tallies] that the wide part is additive in."""
    return torch.cat([state.user_features, tallies(state)], dim=-1)


def utility(logits: Tensor, weights_H: Tensor) -> Tensor:
    """Weighted sum of the tasks' probabilities: logits [..., H] -> [...]."""
    return logits.sigmoid() @ weights_H
