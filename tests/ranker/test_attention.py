"""Sums under gates: the same in blocks of states, in one piece, and by a slow loop."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recomind.ranker import attention
from recomind.ranker.attention import gated_sum, gated_sum_of_nearest

SHARPNESS = torch.tensor(2.5)
Parts = tuple[Tensor, Tensor, Tensor, Tensor]


def parts_of(num_states: int, num_candidates: int, length: int) -> Parts:
    """Units, keys, values and bias; states lack some events, the last one all of them."""
    generator = torch.Generator().manual_seed(3)
    unit_BKD = torch.randn(num_states, num_candidates, 6, generator=generator)
    keys_BLD, values_BLD = torch.randn(2, num_states, length, 6, generator=generator)
    bias_BL = torch.randn(num_states, length, generator=generator)
    absent_BL = torch.arange(length) < torch.arange(num_states)[:, None]
    absent_BL[-1] = True
    return unit_BKD, keys_BLD, values_BLD, bias_BL.masked_fill(absent_BL, -torch.inf)


def by_loop(unit_BKD: Tensor, keys_BLD: Tensor, values_BLD: Tensor, bias_BL: Tensor) -> Tensor:
    seen_BKD = torch.zeros_like(unit_BKD)
    for b, units_KD in enumerate(unit_BKD):
        for k, unit_D in enumerate(units_KD):
            for key_D, value_D, bias in zip(keys_BLD[b], values_BLD[b], bias_BL[b], strict=True):
                seen_BKD[b, k] += (SHARPNESS * unit_D @ key_D + bias).sigmoid() * value_D
    return seen_BKD


@pytest.mark.parametrize(("num_candidates", "length"), [(4, 9), (9, 4)])
@pytest.mark.parametrize("block", [1, 80, 10_000])  # a state, two, and all at once
def test_equals_the_slow_loop(
    monkeypatch: pytest.MonkeyPatch, num_candidates: int, length: int, block: int
) -> None:
    monkeypatch.setattr(attention, "_BLOCK", block)
    parts = parts_of(5, num_candidates, length)
    expected = by_loop(*parts)
    with torch.no_grad():
        seen = gated_sum(*parts, SHARPNESS)
    assert torch.allclose(seen, expected, atol=1e-5)
    assert torch.allclose(gated_sum(*parts, SHARPNESS), expected, atol=1e-5)  # with gradients
    assert not seen[-1].any()


def test_blocks_are_of_a_size_that_a_cache_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    whole = attention._summed

    def noted(*parts: Tensor) -> Tensor:
        sizes.append(parts[0].shape[0] * parts[0].shape[1] * parts[1].shape[1])
        return whole(*parts)

    monkeypatch.setattr(attention, "_summed", noted)
    parts = parts_of(64, 100, 200)
    with torch.no_grad():
        in_blocks = gated_sum(*parts, SHARPNESS)
    assert max(sizes) <= 2**18
    assert sum(sizes) == 64 * 100 * 200
    sizes.clear()
    assert torch.equal(gated_sum(*parts, SHARPNESS), in_blocks)
    assert sizes == [64 * 100 * 200]


@pytest.mark.parametrize("num_nearest", [0, 1, 5, 9, 30])
def test_of_the_nearest_alone_by_a_slow_loop(num_nearest: int) -> None:
    parts = parts_of(4, 3, 9)
    unit_BKD, keys_BLD, values_BLD, bias_BL = parts
    logits_BKL = SHARPNESS * unit_BKD @ keys_BLD.mT + bias_BL[:, None]
    far_BKL = torch.ones_like(logits_BKL, dtype=torch.bool)
    far_BKL.scatter_(2, logits_BKL.argsort(2, descending=True)[..., :num_nearest], False)
    expected = torch.zeros_like(unit_BKD)
    for k in range(unit_BKD.shape[1]):  # to each candidate the far events are none
        near_BL = bias_BL.masked_fill(far_BKL[:, k], -torch.inf)
        expected[:, k] = by_loop(unit_BKD[:, k, None], keys_BLD, values_BLD, near_BL)[:, 0]
    values_BLD.requires_grad_(True)
    seen = gated_sum_of_nearest(*parts, SHARPNESS, num_nearest)
    assert torch.allclose(seen, expected, atol=1e-5)
    seen.sum().backward()
    reached_BL = (values_BLD.grad.abs().sum(2) > 0) if values_BLD.grad is not None else None
    assert reached_BL is not None
    assert torch.equal(reached_BL, ((~far_BKL).any(1)) & bias_BL.isfinite())
