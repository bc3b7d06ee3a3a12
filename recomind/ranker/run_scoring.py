"""Scores the impressions of a log run by run, for training and for judging it.

Symbols: `B` impressions, `S` runs, `K` places of a run, `E` rows that its histories span, `n`
events encoded, `u` different items, `D` width, `M` hidden width, `H` tasks.

The outcome is that of `SessionRanker.encode` and `score`, to rounding. What does not depend on
weights is computed for a block of the log at once (`RunLog`); an event is encoded once for its
run, and sums and attention are products per run, without a copy of the events for each impression.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from recomind.data import SessionDataset
from recomind.ranker.encodings import ItemEncoding
from recomind.ranker.history import numbers_of_events, progress_features, tallies_of_log
from recomind.ranker.model import SessionRanker
from recomind.ranker.runs import Runs, runs_of


class RunLog:
    """All numbers of a block of a log that no weight changes, 200 bytes an event."""

    def __init__(self, dataset: SessionDataset) -> None:
        rows = torch.arange(len(dataset))
        state, labels_EH = dataset.with_history(1).state(rows), dataset.labels(rows)
        dwell_s, length = dataset.dwell_s(rows), dataset.history_length
        outside = torch.zeros_like(dwell_s)
        self.event_numbers = numbers_of_events(labels_EH, dwell_s, state.gap_s, outside)
        tallies = tallies_of_log(labels_EH, dwell_s, rows - dataset.begin(rows), length)
        self.user_numbers = torch.cat([state.user_features, tallies], dim=1)
        self.progress = progress_features(state)


_logs: WeakKeyDictionary[SessionDataset, RunLog] = WeakKeyDictionary()


def run_log(dataset: SessionDataset) -> RunLog:
    """The numbers of `dataset`, kept for as long as it is."""
    if dataset not in _logs:
        _logs[dataset] = RunLog(dataset)
    return _logs[dataset]


class RunScorer:
    """Calibrated logits of the rows of a batch.

    Args:
        ranker: in training or not; without a transformer, whose events depend on their window.
        dataset: the block that the rows are of.
        rows: [B] different ones, run by run, as `order_by_runs` gives them; ascending ones are.
        length: places of a run.
    """

    def __init__(
        self, ranker: SessionRanker, dataset: SessionDataset, rows: Tensor, length: int
    ) -> None:
        self.ranker, self.dataset, self.rows = ranker, dataset, rows
        self.log, self.runs = run_log(dataset), runs_of(dataset, rows, length)
        self.event_nD = torch.empty(0)  # in context, once there are logits

    def logits(self) -> Tensor:
        """[B, H]."""
        ranker, runs = self.ranker, self.runs
        event_n2D, items = self._items()
        vector_nD, key_nD = event_n2D.chunk(2, dim=1)
        self.event_nD = ranker.events(vector_nD, self._event_numbers())
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
        ranker, runs = self.ranker, self.runs
        item_id = self.dataset.item_id(torch.cat([runs.event_row, self.rows]))
        snapshot = torch.cat([runs.event_snapshot, self.dataset.snapshot(self.rows)])
        vector_uD, numbers, inverse = ranker._different(item_id, snapshot)
        both_u2D = torch.cat([vector_uD, ranker._unit(vector_uD)], dim=1)
        both = nn.functional.embedding(inverse, both_u2D)
        of_events, of_shown = both.split([len(runs.event_row), len(self.rows)])
        shown, unit = of_shown.chunk(2, dim=1)
        wide = ranker.wide_item(numbers[inverse[len(of_events) :]])
        return of_events, ItemEncoding(shown, unit, ranker.item_part(shown), wide)

    def _event_numbers(self) -> Tensor:
        numbers = self.log.event_numbers[self.runs.event_row]
        numbers[:, -1] = self.runs.event_inside
        return numbers

    def _states(self, outside: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """The state part of the first layer [B, M], and of the logits [B, H]."""
        outside_BP, inside_BP = (
            nn.functional.embedding(self.runs.place_B, part.flatten(0, 1))
            for part in (outside, inside)
        )
        numbers, progress = self.log.user_numbers[self.rows], self.log.progress[self.rows]
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
    hidden = hidden.addmm_(inside_BP, (of_session + of_all).mT).addmm_(outside_BP, of_all.mT)
    hidden = hidden.add_(first.bias)
    for layer in others:
        hidden = layer(hidden)
    return hidden, wide + ranker.wide_user.bias


def run_logits(ranker: SessionRanker, dataset: SessionDataset, rows: Tensor, length: int) -> Tensor:
    """Calibrated logits [B, H] of different `rows` [B] in any order."""
    rows, order = rows.sort()
    logits = RunScorer(ranker, dataset, rows, length).logits()
    return torch.empty_like(logits).index_copy_(0, order, logits)


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
    old_KE = age_KE > config.recent_length
    if bool(old_KE.any()):
        logits = _of_nearest(logits, old_KE.repeat(1, 2), config.num_nearest)
    return logits.sigmoid() @ values_SED


def _of_nearest(logits: Tensor, old: Tensor, num_nearest: int) -> Tensor:
    """`logits` with -inf for old events but the nearest ones."""
    among = logits.detach().masked_fill(~old, -torch.inf)
    nearest = among.topk(min(num_nearest, among.shape[2]), dim=2).indices
    kept = (~old).expand_as(logits).clone().scatter_(2, nearest, True)
    return logits.masked_fill(~kept, -torch.inf)
