"""How far answers are from the golden ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from recomind.export.golden import Golden, answer
from recomind.export.scorer import PolicyScorer

TOLERANCE = 1e-5  # largest difference of scores, in units of reward
_AT = 10  # places of NDCG


@dataclass(kw_only=True, slots=True)
class Answers:
    """What a scorer in any form says of the requests; the fields are those of `Golden`."""

    order: Tensor  # [S, K]
    q: Tensor  # [S, K]
    utility: Tensor  # [S, K]
    supported: Tensor  # [S, K] bool
    log_density: Tensor | None = None  # [S, K]


def compare(scorer: PolicyScorer, golden: Golden, tolerance: float = TOLERANCE) -> dict[str, Any]:
    """How far `scorer` is from the golden answers; see `compare_answers`.

    Raises:
        SchemaError: the scorer cannot answer, or answers with what is not a number.
    """
    ours = answer(scorer, golden.state, golden.item_id, golden.mask)
    found = {f.name: getattr(ours, f.name) for f in fields(Answers)}
    return compare_answers(Answers(**found), golden, tolerance)


def compare_answers(found: Answers, golden: Golden, tolerance: float = TOLERANCE) -> dict[str, Any]:
    """How far answers are from the golden ones.

    Two orders agree if no place is held by an item whose golden value differs by more than twice
    the tolerance from the one that should be there: items that differ by less may change places.

    Returns:
        `passed`, `max_abs_difference` of Q and utility, `num_order_differences` and
        `num_support_differences` in requests, `num_states`, `num_candidates`, `tolerance`; and
        where the support asks for it `max_log_density_difference`, relative to 1 + its size.
    """
    difference = _largest([(found.q, golden.q), (found.utility, golden.utility)], golden.mask)
    num_order = int(_misplaced(golden, found.order, 2 * tolerance).any(1).sum())
    num_support = int((found.supported != golden.supported).any(1).sum())
    report = {
        "max_abs_difference": difference,
        "num_order_differences": num_order,
        "num_support_differences": num_support,
        "num_states": len(golden.q),
        "num_candidates": int(golden.mask.sum()),
        "tolerance": tolerance,
    }
    agree = difference <= tolerance and num_order == 0 and num_support == 0
    if golden.log_density is not None and found.log_density is not None:
        of_density = _largest([(found.log_density, golden.log_density)], golden.mask, relative=True)
        report["max_log_density_difference"] = of_density
        agree = agree and of_density <= tolerance
    return report | {"passed": agree}


def _largest(
    pairs: Sequence[tuple[Tensor, Tensor]], mask_SK: Tensor, *, relative: bool = False
) -> float:
    """The largest difference among candidates, by 1 + its size if `relative`; NaN if one is NaN."""
    parts = []
    for found_SK, true_SK in pairs:
        difference_n = (found_SK - true_SK)[mask_SK].abs()
        parts.append(difference_n / (1.0 + true_SK[mask_SK].abs()) if relative else difference_n)
    return float(torch.cat(parts).max())


def _misplaced(golden: Golden, order_SK: Tensor, bound: float) -> Tensor:
    """Places [S, K] bool held by an item that does not belong there."""
    key_SK = golden.q.where(golden.supported, golden.utility)
    kind_SK = golden.mask.int() + golden.supported.int()
    moved = key_SK.gather(1, golden.order) - key_SK.gather(1, order_SK)
    other_kind = kind_SK.gather(1, golden.order) != kind_SK.gather(1, order_SK)
    padding = kind_SK.gather(1, golden.order) == 0
    return other_kind | ((moved.abs() > bound) & ~padding)


def ndcg_of(golden: Golden, order_SK: Tensor) -> float:
    """Mean NDCG@10 of an order against the golden one.

    The gain of a candidate is its golden score above the least one of its request: Q inside the
    support, and below all of those outside of it.
    """
    key_SK = golden.q.where(golden.supported, golden.utility)
    floor_S1 = key_SK.masked_fill(~golden.supported, torch.inf).min(1, keepdim=True).values
    gain_SK = (key_SK - floor_S1).masked_fill(~golden.supported | ~golden.mask, 0.0)
    num = min(_AT, gain_SK.shape[1])
    discount = 1.0 / torch.arange(2, num + 2).log2()
    ours, best = (
        (gain_SK.gather(1, order)[:, :num] * discount).sum(1) for order in (order_SK, golden.order)
    )
    return float(torch.where(best > 0, ours / best.clamp(min=1e-12), torch.ones_like(best)).mean())
