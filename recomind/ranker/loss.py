"""What the ranker is trained for: the tasks' labels, and the next action as an auxiliary one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recomind.data import SessionDataset
from recomind.ranker.model import SessionRanker
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
        ranker, snapshot = self.ranker, dataset.snapshot(rows)
        state, item_id, labels = dataset.state(rows), dataset.item_id(rows), dataset.labels(rows)
        shared = dataset.history_rows(rows) if ranker.config.session_batches else None
        encoding, recent_BTD = ranker.encode(state, snapshot, shared)
        logits = ranker.score(encoding, item_id[:, None], snapshot[:, None])[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
        weight = ranker.config.next_action_weight
        if weight == 0.0:
            return loss
        liked_BH = torch.cat([state.history_feedback, labels[:, None].bool()], dim=1)
        shown_BL = torch.cat([state.history_item_id, item_id[:, None]], dim=1)
        return loss + weight * next_action_loss(
            ranker, state, recent_BTD, shown_BL, liked_BH, snapshot
        )


def next_action_loss(
    ranker: SessionRanker,
    state: SessionState,
    recent_BTD: Tensor,
    shown_BL1: Tensor,
    feedback_BL1H: Tensor,
    snapshot_B: Tensor,
) -> Tensor:
    """Sampled softmax of the next item that the user responded to, from each event in context.

    Next Action Loss (TransAct V2, arXiv:2506.02267), with the other positives of the batch as
    negatives and the correction log Q by their frequency there (Yi et al., RecSys 2019).

    Args:
        ranker: gives items their place on the gate's sphere, and the projection of events.
        state: [B].
        recent_BTD: the recent events in context.
        shown_BL1: [B, L + 1] history, then the impression itself.
        feedback_BL1H: its feedback; an item counts where the first weighted task says so.
        snapshot_B: of the content.
    """
    length = recent_BTD.shape[1]
    task = ranker.tasks.index(next(iter(ranker.config.utility_weights)))
    target_BT = shown_BL1[:, -length:]
    positive_BT = feedback_BL1H[:, -length:, task] & state.history_mask[:, -length:]
    where = positive_BT.nonzero()
    if len(where) < 2:
        return recent_BTD.sum() * 0.0
    where = where[torch.randperm(len(where))[:_MAX_POSITIVES]]
    item_P, snapshot_P = target_BT[where[:, 0], where[:, 1]], snapshot_B[where[:, 0]]
    query_PD = nn.functional.normalize(
        ranker.next_action(recent_BTD[where[:, 0], where[:, 1]]), dim=-1
    )
    unit_PD = ranker.encode_items(item_P, snapshot_P).unit
    _, inverse, counts = torch.unique(item_P, return_inverse=True, return_counts=True)
    logits_PP = query_PD @ unit_PD.T / _TEMPERATURE - counts[inverse].float().log()
    # The same item elsewhere in the batch is no negative.
    same_PP = (item_P[:, None] == item_P) & ~torch.eye(len(item_P), dtype=torch.bool)
    logits_PP = logits_PP.masked_fill(same_PP, -torch.inf)
    return nn.functional.cross_entropy(logits_PP, torch.arange(len(item_P)))
