"""A policy's order, taught to a scorer that values each candidate alone.

    loss = H(softmax of the policy's Q inside the support, softmax of the scorer's utility) + drift

The first term is the "top one" loss of Cao et al., "Learning to rank: from pairwise approach to
listwise approach" (ICML 2007). What lies outside the support has the target 0, so that the scorer
learns the support as far as state and item tell it: taught by Q alone it would place first what no
log backs. The drift keeps the mean probability of each task in a pool, and each probability of a
task that the utility does not weigh, where they were. Ours.

Symbols: `S` states, `B` states of a batch, `K` candidates, `H` tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recomind.export.comparing import ndcg_of
from recomind.export.golden import Golden
from recomind.export.scorer import ordered_slots
from recomind.policy import QNetwork
from recomind.ranker import utility
from recomind.retrieval.distilling import top_one_targets
from recomind.streams import make_generator
from recomind.types import Ranker, SessionState

Logits = Callable[[SessionState, Tensor], Tensor]  # states [B], items [B, K] -> [B, K, H]

_BATCH = 128  # states
_LEARNING_RATE = 5e-3  # peak of a one-cycle schedule
_TEMPERATURE = 0.5  # of the targets, in standard deviations over a pool
_MAX_NORM = 1.0  # for the gradient


@dataclass(kw_only=True, slots=True)
class Lessons:
    """What a policy is distilled from: logged states, the run's own pools, the policy's answers."""

    rankers: Sequence[Ranker]  # the ensemble that the policy began with
    train: Golden
    held_out: Golden  # of later days where the log has them
    num_epochs: int  # passes over `train`
    seed: int = 0  # of their order


def is_untrained(network: QNetwork) -> bool:
    """Whether the policy values items exactly as its ranker does."""
    parts = [network.residual.weight]
    if network.effects_NE is not None:
        parts += [network.gain.weight, network.gain.bias]
    return network.config.bootstrap and not any(bool(part.any()) for part in parts)


def distil(
    student: Logits, parameters: Sequence[nn.Parameter], weights_H: Tensor, lessons: Lessons
) -> None:
    """Teach `student`, whose `parameters` are changed in place, the order of the policy.

    Args:
        student: calibrated logits, differentiable.
        parameters: what may change.
        weights_H: of the tasks in the utility.
        lessons: states, pools and answers.
    """
    golden = lessons.train
    target_SK = top_one_targets(_values(golden), _TEMPERATURE)
    with torch.no_grad():
        before_SKH = _in_chunks(student, golden).sigmoid()
    deviation = float(_centred(before_SKH @ weights_H, golden.mask).square().mean().sqrt())
    log_scale = nn.Parameter(torch.tensor(-math.log(max(deviation, 1e-3) * _TEMPERATURE)))
    optimiser = torch.optim.Adam([*parameters, log_scale], lr=_LEARNING_RATE)
    total = lessons.num_epochs * math.ceil(len(target_SK) / _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, total_steps=total)
    generator = make_generator(lessons.seed)
    for _ in range(lessons.num_epochs):
        for at in torch.randperm(len(target_SK), generator=generator).split(_BATCH):
            probability_BKH = student(golden.state[at], golden.item_id[at]).sigmoid()
            mask_BK = golden.mask[at]
            scores_BK = (probability_BKH @ weights_H * log_scale.exp()).masked_fill(~mask_BK, -1e9)
            loss = nn.functional.cross_entropy(scores_BK, target_SK[at])
            loss = loss + _drift(probability_BKH, before_SKH[at], mask_BK, weights_H)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, _MAX_NORM)
            optimiser.step()
            schedule.step()


def _values(golden: Golden) -> Tensor:
    return golden.q.masked_fill(~golden.supported | ~golden.mask, -torch.inf)


def _drift(now_BKH: Tensor, before_BKH: Tensor, mask_BK: Tensor, weights_H: Tensor) -> Tensor:
    """How far probabilities moved: of weighed tasks the mean of a pool, of others each one."""
    moved_BKH = (now_BKH - before_BKH) * mask_BK[..., None]
    num_B1 = mask_BK.sum(1, keepdim=True)
    of_means = (moved_BKH.sum(1) / num_B1).square().mean()
    unweighed = moved_BKH[..., weights_H == 0]
    return of_means + (unweighed.square().mean() if unweighed.numel() else 0.0)


def _centred(values_SK: Tensor, mask_SK: Tensor) -> Tensor:
    """Values less their mean over the mask; 0 outside of it."""
    kept_SK = values_SK.masked_fill(~mask_SK, 0.0)
    num_S1 = mask_SK.sum(1, keepdim=True).clamp(min=1)
    return (kept_SK - kept_SK.sum(1, keepdim=True) / num_S1).masked_fill(~mask_SK, 0.0)


def _in_chunks(student: Logits, golden: Golden) -> Tensor:
    rows = torch.arange(len(golden.q)).split(_BATCH)
    return torch.cat([student(golden.state[at], golden.item_id[at]) for at in rows])


@torch.no_grad()
def agreement(student: Logits, weights_H: Tensor, golden: Golden) -> dict[str, float]:
    """How far the order of `student` is that of the policy, on states that taught it nothing.

    Returns:
        ndcg_at_10: of its order, where the gain is the policy's Q inside the support.
        top1_agreement: share of states in which both choose the same item.
        share_in_support: share of states in which it chooses an item that the policy may choose.
        max_score_difference: largest difference of its utility from Q inside the support, both
            less their mean over a state's support and the former times one number for all states,
            the least-squares one; in units of reward. `score_deviation` is Q's standard deviation.
    """
    utility_SK = utility(_in_chunks(student, golden), weights_H)
    mask = golden.mask
    order_SK = ordered_slots(utility_SK, mask, utility_SK, golden.item_id, mask)
    first_S1, inside_SK = order_SK[:, :1], golden.supported & mask
    ours_SK, theirs_SK = _centred(utility_SK, inside_SK), _centred(golden.q, inside_SK)
    scale = (ours_SK * theirs_SK).sum() / ours_SK.square().sum().clamp(min=1e-12)
    return {
        "ndcg_at_10": ndcg_of(golden, order_SK),
        "top1_agreement": float((first_S1 == golden.order[:, :1]).float().mean()),
        "share_in_support": float(golden.supported.gather(1, first_S1).float().mean()),
        "max_score_difference": float((ours_SK * scale - theirs_SK).abs().max()),
        "score_deviation": float(theirs_SK[inside_SK].square().mean().sqrt()),
    }
