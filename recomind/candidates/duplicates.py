"""Near-duplicates in a pool: a candidate that is too close to an earlier one is dropped.

Symbols: `B` pools, `K` slots, `N = B K` slots of all, `D` length of a vector, `T` hash tables of
`b` bits, `E` pairs.

Slots are visited in the order of the pool; a slot stays unless its cosine with an earlier one that
stayed reaches the threshold. So no two slots that stay are near, and each dropped slot is near one
that stays; a slot that is near dropped ones only, stays.

    cosine >= .9:    a ~ b, b ~ c, a !~ c         a stays, b goes, c stays

In a small pool all pairs are compared, which is cheapest there. In a large pool random-hyperplane
hashing selects the pairs: a bit is the side of a random plane, on which two vectors at angle theta
agree with probability 1 - theta / pi (Charikar, STOC 2002), and a pair is compared if all b bits of
any table agree. A near pair is missed with probability

    (1 - (1 - theta / pi)^b)^T

and never where the vectors are equal. The exact cosine of every selected pair is checked, so
nothing is dropped that is not near. In pools so full of copies that their buckets hold more pairs
than the pool has, all pairs are compared too.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recomind.errors import ConfigError, SchemaError

NUM_BITS, NUM_TABLES = 14, 20  # a pair at cosine .95 is missed once in 160
ALL_PAIRS_UP_TO = 1024  # slots of a pool up to which hashing does not pay off
_CHUNK = 1 << 20  # pairs compared at a time
_BLOCK = 1 << 24  # cosines computed at a time


class NearDuplicates:
    """Finds and drops near-duplicates of pools.

    Args:
        cosine: pairs with at least this cosine are near, in (0, 1].
        dim: `D`.
        generator: draws the hyperplanes, once.
        num_bits: `b`, at most 62; more bits select fewer pairs and miss more.
        num_tables: `T`; more tables miss fewer pairs and cost more.
        all_pairs_up_to: slots of a pool up to which all pairs are compared and none is missed.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(
        self,
        cosine: float,
        dim: int,
        generator: torch.Generator,
        *,
        num_bits: int = NUM_BITS,
        num_tables: int = NUM_TABLES,
        all_pairs_up_to: int = ALL_PAIRS_UP_TO,
    ) -> None:
        _check_settings(cosine, num_bits, num_tables)
        self.cosine, self.num_bits, self.all_pairs_up_to = cosine, num_bits, all_pairs_up_to
        self._planes_DTb = torch.randn(dim, num_tables, num_bits, generator=generator)

    def keep(self, vectors_BKD: Tensor, mask_BK: Tensor) -> Tensor:
        """Which slots stay.

        Args:
            vectors_BKD: [B, K, D] float, of any length but 0; only those inside the mask count.
            mask_BK: [B, K] bool, the slots that hold a candidate.

        Returns:
            [B, K] bool, a subset of the mask.

        Raises:
            SchemaError: shapes disagree, or a vector inside the mask is zero or not finite.
        """
        unit_BKD = self._unit(vectors_BKD, mask_BK)
        if mask_BK.shape[1] <= self.all_pairs_up_to:
            return first_of_each(all_near_pairs(unit_BKD, self.cosine), mask_BK)
        buckets = [Buckets(code_BK, mask_BK) for code_BK in self._codes(unit_BKD).unbind(2)]
        num_all = len(mask_BK) * mask_BK.shape[1] * (mask_BK.shape[1] - 1) // 2
        if sum(bucket.num_pairs for bucket in buckets) > num_all:
            return first_of_each(all_near_pairs(unit_BKD, self.cosine), mask_BK)
        flat_ND = unit_BKD.flatten(0, 1)
        found = [near_pairs(bucket.pairs(), flat_ND, self.cosine) for bucket in buckets]
        return first_of_each(torch.cat(found, dim=1), mask_BK)

    def _unit(self, vectors_BKD: Tensor, mask_BK: Tensor) -> Tensor:
        expected = (*mask_BK.shape, self._planes_DTb.shape[0])
        if tuple(vectors_BKD.shape) != expected:
            raise SchemaError(
                "vectors of a pool", got=tuple(vectors_BKD.shape), expected=f"[B, K, D] {expected}"
            )
        norm_BK1 = vectors_BKD.norm(dim=2, keepdim=True)
        bad_BK = mask_BK & ~((norm_BK1 > 0) & norm_BK1.isfinite())[:, :, 0]
        if bool(bad_BK.any()):
            raise SchemaError(
                "a candidate's vector is zero or not finite",
                got=f"{int(bad_BK.sum())} of {int(mask_BK.sum())} candidates",
                mend="look for NaN in the features of items",
            )
        return torch.where(mask_BK[:, :, None], vectors_BKD / norm_BK1, 0.0)

    def _codes(self, unit_BKD: Tensor) -> Tensor:
        """Bucket [B, K, T] int64 of every vector in every table."""
        planes_DTb = self._planes_DTb.to(unit_BKD)
        side_BKTb = torch.einsum("bkd,dtj->bktj", unit_BKD, planes_DTb) > 0
        weight_b = 1 << torch.arange(self.num_bits, device=unit_BKD.device)
        return (side_BKTb * weight_b).sum(3)


def miss_probability(cosine: float, num_bits: int, num_tables: int) -> float:
    """Probability that a pair at this cosine shares no bucket: (1 - (1 - theta / pi)^b)^T.

    >>> round(miss_probability(0.95, 14, 20), 4)
    0.0061
    """
    same_bit = 1.0 - math.acos(max(-1.0, min(1.0, cosine))) / math.pi
    return (1.0 - same_bit**num_bits) ** num_tables


class Buckets:
    """The slots of `B` pools by their code in one table; padding is alone in its bucket.

    After a stable sort by code the slots of a bucket lie side by side in the order of the pool:
    the slot at place p of its bucket is paired with the p slots before it.
    """

    def __init__(self, code_BK: Tensor, mask_BK: Tensor) -> None:
        num_slots = code_BK.shape[1]
        slot_BK = torch.arange(num_slots, device=code_BK.device).expand_as(code_BK)
        sorted_BK, order_BK = torch.where(mask_BK, code_BK, -1 - slot_BK).sort(dim=1, stable=True)
        new_BK = torch.ones_like(mask_BK)
        new_BK[:, 1:] = sorted_BK[:, 1:] != sorted_BK[:, :-1]
        start_BK = torch.where(new_BK, slot_BK, 0).cummax(dim=1).values
        row_B1 = torch.arange(len(code_BK), device=code_BK.device)[:, None] * num_slots
        self._place_N, self._slot_N = (slot_BK - start_BK).flatten(), (order_BK + row_B1).flatten()
        self.num_pairs = int(self._place_N.sum())

    def pairs(self) -> Tensor:
        """[2, E] of flat slots `b K + k` that share a bucket, the earlier slot first."""
        place_N = self._place_N
        later_E = torch.repeat_interleave(place_N)  # n comes place_N[n] times
        count_E = torch.arange(len(later_E), device=later_E.device)
        back_E = count_E - (place_N.cumsum(0) - place_N)[later_E] + 1  # 1 .. place_N[n]
        return torch.stack([self._slot_N[later_E - back_E], self._slot_N[later_E]])


def all_near_pairs(unit_BKD: Tensor, cosine: float) -> Tensor:
    """[2, E] of flat slots whose cosine reaches the threshold, the earlier first, from all pairs.

    Some slots are compared with the whole pool at a time, so memory does not grow with K squared.
    """
    batch, num_slots, _ = unit_BKD.shape
    found = [torch.zeros(2, 0, dtype=torch.int64, device=unit_BKD.device)]
    slot_K = torch.arange(num_slots, device=unit_BKD.device)
    for some in slot_K.split(max(1, _BLOCK // max(1, batch * num_slots))):
        near_BSK = unit_BKD[:, some] @ unit_BKD.transpose(1, 2) >= cosine
        row, later, earlier = (near_BSK & (slot_K < some[:, None])).nonzero(as_tuple=True)
        found.append(torch.stack([earlier, some[later]]) + row * num_slots)
    return torch.cat(found, dim=1)


def near_pairs(pairs_2E: Tensor, unit_ND: Tensor, cosine: float) -> Tensor:
    """The pairs of [2, E] whose cosine reaches the threshold, given unit vectors."""
    near = [
        chunk[:, (unit_ND[chunk[0]] * unit_ND[chunk[1]]).sum(1) >= cosine]
        for chunk in pairs_2E.split(_CHUNK, dim=1)
    ]
    return torch.cat(near, dim=1)


def first_of_each(pairs_2E: Tensor, mask_BK: Tensor) -> Tensor:
    """[B, K] bool: the slots that stay when visited in order; `pairs_2E` are the near pairs.

    All slots are updated at once, repeatedly: after n rounds the result is right for every slot at
    the end of a chain of n near pairs. A round that changes nothing ends it.
    """
    earlier_E, later_E = pairs_2E
    mask_N = mask_BK.flatten()
    keep_N = mask_N
    while True:
        next_N = mask_N.clone()
        next_N[later_E[keep_N[earlier_E]]] = False
        if torch.equal(next_N, keep_N):
            return keep_N.view_as(mask_BK)
        keep_N = next_N


def _check_settings(cosine: float, num_bits: int, num_tables: int) -> None:
    if not 0.0 < cosine <= 1.0:
        raise ConfigError("the cosine of near-duplicates", got=cosine, expected="in (0, 1]")
    if not 1 <= num_bits <= 62 or num_tables < 1:
        raise ConfigError(
            "hash tables of near-duplicates",
            got=f"num_bits={num_bits}, num_tables={num_tables}",
            expected="num_bits in 1 .. 62, num_tables >= 1",
        )
