"""What the ranker is trained for: the tasks' labels, and the next action as an auxiliary one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recomind.data import SessionDataset
from recomind.devices import device_of, on_device, to_device
from recomind.ranker.model import SessionRanker
from recomind.ranker.run_batch import RunBatch, run_batch
from recomind.ranker.run_scoring import RunScorer
from recomind.types import SessionState

_MAX_POSITIVES = 512  # in a batch; they are each other's negatives
_TEMPERATURE = 0.1


class ImpressionLoss(nn.Module):
    """Mean loss of impressions; a module, so that distributed wrappers see one forward pass."""

    def __init__(self, ranker: SessionRanker) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(self, dataset: SessionDataset, rows: Tensor) -> Tensor:
        """Binary cross-entropy over tasks and rows, plus the weighted Next Action Loss."""
        if self.ranker.scores_runs:
            length, catalogue = self.ranker.config.run_length, self.ranker.catalogue
            return self.of_batch(dataset, run_batch(dataset, rows, length, catalogue))
        logits, events = self._one_by_one(dataset, rows)
        return self._loss(logits, dataset.labels(rows), events)

    def of_batch(self, dataset: SessionDataset, batch: RunBatch) -> Tensor:
        """The same of rows that have been gathered, on the processor, for a ranker of runs."""
        scorer = RunScorer(self.ranker, on_device(batch, device_of(self.ranker)))
        logits, runs = scorer.logits(), batch.runs

        def events() -> NextActions:
            after = runs.event_row + 1
            labels_nH = dataset.labels(after)
            item_n = dataset.item_id(after)
            return NextActions(scorer.event_nD, item_n, labels_nH, runs.event_snapshot)

        return self._loss(logits, scorer.batch.labels, events)

    def _loss(self, logits: Tensor, labels: Tensor, events: Events) -> Tensor:
        labels = to_device(labels, logits.device)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
        weight = self.ranker.config.next_action_weight
        return loss if weight == 0.0 else loss + weight * next_action_loss(self.ranker, events())

    def _one_by_one(self, dataset: SessionDataset, rows: Tensor) -> tuple[Tensor, Events]:
        ranker, device = self.ranker, device_of(self.ranker)
        snapshot, item_id = (
            to_device(part, device) for part in (dataset.snapshot(rows), dataset.item_id(rows))
        )
        state, shared = on_device(dataset.state(rows), device), None
        if ranker.config.session_batches:
            shared = to_device(dataset.history_rows(rows), device)
        encoding, recent_BTD = ranker.encode(state, snapshot, shared)
        logits = ranker.score(encoding, item_id[:, None], snapshot[:, None])[:, 0]

        def events() -> NextActions:
            labels_B1H = to_device(dataset.labels(rows)[:, None], device)
            feedback_BLH = torch.cat([state.history_feedback, labels_B1H.bool()], dim=1)
            shown_BL = torch.cat([state.history_item_id, item_id[:, None]], dim=1)
            return next_actions(state, recent_BTD, shown_BL, feedback_BLH, snapshot)

        return logits, events


@dataclass(slots=True)
class NextActions:
    """Events, and what was shown after each."""

    event_nD: Tensor  # in context
    item: Tensor  # [n], the next item
    feedback: Tensor  # [n, H], what was done with it
    snapshot: Tensor  # [n], of the content


Events = Callable[[], NextActions]


def next_actions(
    state: SessionState,
    recent_BTD: Tensor,
    shown_BL1: Tensor,
    feedback_BL1H: Tensor,
    snapshot_B: Tensor,
) -> NextActions:
    """What followed each recent event of the states.

    Args:
        state: [B].
        recent_BTD: the recent events in context.
        shown_BL1: [B, L + 1] history, then the impression itself.
        feedback_BL1H: its feedback.
        snapshot_B: of the content.
    """
    length = recent_BTD.shape[1]
    there_BT = state.history_mask[:, -length:]
    snapshot_BT = snapshot_B[:, None].expand_as(there_BT)
    parts = (recent_BTD, shown_BL1[:, -length:], feedback_BL1H[:, -length:], snapshot_BT)
    return NextActions(*(part[there_BT] for part in parts))


def next_action_loss(ranker: SessionRanker, events: NextActions) -> Tensor:
    """Sampled softmax of the next item that the user responded to, from each event in context.

    Next Action Loss (TransAct V2, arXiv:2506.02267), with the other positives of the batch as
    negatives and the correction log Q by their frequency there (Yi et al., RecSys 2019). An item
    counts where the first weighted task says so.
    """
    task = ranker.tasks.index(next(iter(ranker.config.utility_weights)))
    where = events.feedback[:, task].nonzero()[:, 0]
    if len(where) < 2:
        return events.event_nD.sum() * 0.0
    device = events.event_nD.device
    where = where[to_device(torch.randperm(len(where))[:_MAX_POSITIVES], where.device)]
    item_P, snapshot_P = (to_device(p[where], device) for p in (events.item, events.snapshot))
    where = to_device(where, device)
    query_PD = nn.functional.normalize(ranker.next_action(events.event_nD[where]), dim=-1)
    unit_PD = ranker.encode_items(item_P, snapshot_P).unit
    _, inverse, counts = torch.unique(item_P, return_inverse=True, return_counts=True)
    logits_PP = query_PD @ unit_PD.T / _TEMPERATURE - counts[inverse].float().log()
    # The same item elsewhere in the batch is no negative.
    same_PP = (item_P[:, None] == item_P) & ~torch.eye(len(item_P), dtype=torch.bool, device=device)
    logits_PP = logits_PP.masked_fill(same_PP, -torch.inf)
    return nn.functional.cross_entropy(logits_PP, torch.arange(len(item_P), device=device))
