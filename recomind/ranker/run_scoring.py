"""Scores the impressions of a log run by run, for training and for judging it.

Symbols: `B` impressions, `S` runs, `K` places of a run, `E` rows that its histories span, `n`
events encoded, `u` different items, `D` width, `M` hidden width, `H` tasks.

The outcome is that of `SessionRanker.encode` and `score`, to rounding. What does not depend on
weights is computed for a block of the log at once (`RunLog`); an event is encoded once for its
run, and sums and attention are products per run, without a copy of the events for each impression.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recomind.data import SessionDataset
from recomind.devices import device_of, on_device, to_device
from recomind.ranker.encodings import ItemEncoding
from recomind.ranker.model import SessionRanker
from recomind.ranker.products import add_product
from recomind.ranker.run_batch import RunBatch, run_batch
from recomind.ranker.runs import Runs


class RunScorer:
    """Calibrated logits of the rows of a batch.

    Args:
        ranker: in training or not; without a transformer, whose events depend on their window.
        batch: on the ranker's device.
    """

    def __init__(self, ranker: SessionRanker, batch: RunBatch) -> None:
        self.ranker, self.batch, self.runs = ranker, batch, batch.runs
        self.event_nD = torch.empty(0)  # in context, once there are logits

    def logits(self) -> Tensor:
        """[B, H]."""
        ranker, runs = self.ranker, self.runs
        event_n2D, items = self._items()
        vector_nD, key_nD = event_n2D.chunk(2, dim=1)
        self.event_nD = ranker.events(vector_nD, self.batch.event_numbers)
        encoded = torch.cat([self.event_nD, key_nD, ranker.value(self.event_nD)], dim=1)
        events, keys, values = _spread(encoded, runs.event, runs.num_runs, 2 * runs.age_KE.shape[1])
        hidden_BM, wide_BH = self._states(*_pooled(ranker, runs, events))
        unit_SKD = _spread(items.unit, runs.place_B, runs.num_runs, len(runs.age_KE), num=1)[0]
        seen = _seen(ranker, runs, unit_SKD, keys, values).flatten(0, 1)
        seen_BD = nn.functional.embedding(runs.place_B, seen)
        joint_BM = ranker.joint_of_one(seen_BD, hidden_BM, items)
        logits = ranker.head(joint_BM).add_(items.wide).add_(wide_BH)
        return ranker.calibration(logits)

    def _items(self) -> tuple[Tensor, ItemEncoding]:
        """Vectors beside keys [n, 2 * D] of the events' items, and encodings of items shown."""
        ranker, items = self.ranker, self.batch.items
        vector_uD, numbers = ranker.items.encode(items.item_id, items.content)
        both_u2D = torch.cat([vector_uD, ranker._unit(vector_uD)], dim=1)
        both = nn.functional.embedding(items.inverse, both_u2D)
        of_events, of_shown = both.split([len(self.runs.event_row), len(self.runs.place_B)])
        shown, unit = of_shown.chunk(2, dim=1)
        wide = ranker.wide_item(numbers[items.inverse[len(of_events) :]])
        return of_events, ItemEncoding(shown, unit, ranker.item_part(shown), wide)

    def _states(self, outside: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """The state part of the first layer [B, M], and of the logits [B, H]."""
        outside_BP, inside_BP = (
            nn.functional.embedding(self.runs.place_B, part.flatten(0, 1))
            for part in (outside, inside)
        )
        numbers, progress = self.batch.user_numbers, self.batch.progress
        return _state_layers(self.ranker, numbers, outside_BP, inside_BP, progress)


def _state_layers(
    ranker: SessionRanker, numbers: Tensor, outside_BP: Tensor, inside_BP: Tensor, progress: Tensor
) -> tuple[Tensor, Tensor]:
    """As `SessionRanker` has them, with the first layer's product in parts.

    Only the pooled events have a gradient, so most of the product back to the inputs falls away.
    """
    first, *others = ranker.state
    assert isinstance(first, nn.Linear)
    user, num_pooled, num_hidden = ranker.users(numbers), inside_BP.shape[1], first.out_features
    of_session, of_all, of_user, of_progress = first.weight.split(
        [num_pooled, num_pooled, user.shape[1], progress.shape[1]], dim=1
    )
    both = user @ torch.cat([of_user, ranker.wide_user.weight]).mT
    hidden, wide = both.split([num_hidden, both.shape[1] - num_hidden], dim=1)
    hidden = torch.addmm(hidden, progress, of_progress.mT)
    # Sums over all events are those over the session's and over the others.
    hidden = add_product(hidden, inside_BP, (of_session + of_all).mT)
    hidden = add_product(hidden, outside_BP, of_all.mT)
    hidden = hidden.add_(first.bias)
    for layer in others:
        hidden = layer(hidden)
    return hidden, wide + ranker.wide_user.bias


def run_logits(ranker: SessionRanker, dataset: SessionDataset, rows: Tensor, length: int) -> Tensor:
    """Calibrated logits [B, H] of different `rows` [B] in any order."""
    rows, order = rows.sort()
    batch = on_device(run_batch(dataset, rows, length, ranker.catalogue), device_of(ranker))
    logits = RunScorer(ranker, batch).logits()
    return torch.empty_like(logits).index_copy_(0, to_device(order, logits.device), logits)


def _spread(
    part: Tensor, index: Tensor, num_runs: int, length: int, num: int = 3
) -> tuple[Tensor, ...]:
    """`num` parts [S, length, D], side by side in `part`, at the places `index` of zeros."""
    zeros = part.new_zeros(num_runs * length, part.shape[1])
    return zeros.index_copy_(0, index, part).view(num_runs, length, -1).chunk(num, dim=2)


def _pooled(ranker: SessionRanker, runs: Runs, events: Tensor) -> tuple[Tensor, Tensor]:
    """The sums of `DecayPool` [S, K, R * D], over events of earlier sessions and of the present."""
    weight_RKE = ranker.pool.weights((runs.age_KE - 1).clamp(min=0).float())
    weight_KRE = weight_RKE.transpose(0, 1).contiguous()
    outside, inside = (
        ((there.float()[:, :, None] * weight_KRE).flatten(1, 2) @ event).view(*there.shape[:2], -1)
        for there, event in zip(
            (runs.outside_SKE, runs.inside_SKE), events.chunk(2, dim=1), strict=True
        )
    )
    return outside, inside


def _seen(
    ranker: SessionRanker, runs: Runs, unit_SKD: Tensor, keys_SED: Tensor, values_SED: Tensor
) -> Tensor:
    """What the impressions see of their histories [S, K, D]: `gated_sum`, run by run."""
    config, age_KE = ranker.config, runs.age_KE
    by_age = torch.cat([ranker.recency.flip(0), ranker.old_bias[None]])
    bias_KE = by_age[(age_KE - 1).clamp(0, config.recent_length)]
    bias_K2E = torch.cat([bias_KE, bias_KE + ranker.session_bias], dim=1)
    there_SK2E = torch.cat([runs.outside_SKE, runs.inside_SKE], dim=2)
    bias_SK2E = bias_K2E.masked_fill(~there_SK2E, -torch.inf)
    logits = torch.baddbmm(bias_SK2E, unit_SKD * ranker.log_sharpness.exp(), keys_SED.mT)
    if age_KE.shape[1] > config.recent_length:  # the oldest event's age: nothing is waited for
        old_KE = age_KE > config.recent_length
        logits = _of_nearest(logits, old_KE.repeat(1, 2), config.num_nearest)
    return logits.sigmoid() @ values_SED


def _of_nearest(logits: Tensor, old: Tensor, num_nearest: int) -> Tensor:
    """`logits` with -inf for old events but the nearest ones."""
    among = logits.detach().masked_fill(~old, -torch.inf)
    nearest = among.topk(min(num_nearest, among.shape[2]), dim=2).indices
    kept = (~old).expand_as(logits).clone().scatter_(2, nearest, True)
    return logits.masked_fill(~kept, -torch.inf)
