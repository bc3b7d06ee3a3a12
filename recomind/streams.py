"""Counter-based random numbers: one stream a session, no state, no Python loop.

A draw is a hash of (session seed, step, lane), so it does not depend on what was drawn before,
on the other sessions of the batch, or on the action taken: two policies that are given the same
seeds meet the same users with the same luck (common random numbers).

The mixing function is splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
generators", OOPSLA 2014). `int64` arithmetic wraps in torch, which is what the algorithm needs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


# Independent random lanes of a session's stream, one for each consumer.
LANE_WORLD, LANE_POOL, LANE_ACT, LANE_BEGIN = 0, 1, 2, 3


def _wrap(value: int) -> int:
    """`value` modulo 2^64 as a signed 64-bit integer."""
    return (value + 2**63) % 2**64 - 2**63


def hash_int64(x: Tensor, salt: int = 0) -> Tensor:
    """Splitmix64 of `x` [...] int64; `salt` selects an independent function."""
    if x.device.type != "cpu":
        return _hash_on_device(x, salt)
    return torch.from_numpy(_hash_in_numpy(x, salt).view(np.int64)).view(x.shape)


def hash_uniform(x: Tensor, salt: int = 0) -> Tensor:
    """Uniform float32 in (0, 1) for each entry of `x` [...] int64; never 0 or 1."""
    # 23 bits: k + 1/2 is exact in float32.
    if x.device.type != "cpu":
        bits = _shift_right(_hash_on_device(x, salt), 41)
        return (bits.to(torch.float32) + 0.5) * (1.0 / (1 << 23))
    unit = (_hash_in_numpy(x, salt) >> np.uint64(41)).astype(np.float32)
    unit += np.float32(0.5)
    unit *= np.float32(1.0 / (1 << 23))
    return torch.from_numpy(unit).view(x.shape)


def _hash_on_device(x: Tensor, salt: int) -> Tensor:
    z = x + _wrap(_GOLDEN * (salt + 1))
    z = (z ^ _shift_right(z, 30)) * _MIX_1
    z = (z ^ _shift_right(z, 27)) * _MIX_2
    return z ^ _shift_right(z, 31)


def _hash_in_numpy(x: Tensor, salt: int) -> np.ndarray:
    """Flat uint64; on a processor half of the time of torch, and a step draws 40 times."""
    z = x.numpy().reshape(-1).view(np.uint64) + np.uint64(_GOLDEN * (salt + 1) % 2**64)
    z ^= z >> np.uint64(30)
    z *= np.uint64(_MIX_1 % 2**64)
    z ^= z >> np.uint64(27)
    z *= np.uint64(_MIX_2 % 2**64)
    z ^= z >> np.uint64(31)
    return z


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's own shift on int64 is arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def hash_normal(x: Tensor, salt: int = 0) -> Tensor:
    """Standard normal float32 for each entry of `x` [...] int64 (inverse of the normal CDF)."""
    return torch.special.ndtri(hash_uniform(x, salt))


class SessionStreams:
    """One random stream a session.

    Args:
        seeds: [B] int64, one a session.
    """

    def __init__(self, seeds: Tensor) -> None:
        self.seeds = seeds

    def uniform(self, step: Tensor, num: int, lane: int = 0) -> Tensor:
        """Uniform draws [B, num] for the sessions' steps `step` [B].

        `lane` separates consumers, such as `LANE_WORLD` and `LANE_POOL`: draws of different lanes
        are independent.
        """
        keys = hash_int64(self.seeds ^ hash_int64(step, 17 + lane))
        columns = torch.arange(num, dtype=torch.int64, device=self.seeds.device)
        return hash_uniform(keys[:, None] + columns * 0x2545F491, 3)


def draw_seeds(num: int, generator: torch.Generator) -> Tensor:
    """[num] int64 session seeds from a passed-in generator."""
    return torch.randint(-(2**62), 2**62, (num,), generator=generator, dtype=torch.int64)


def draw_rows(rows: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """At most `num` of `rows` [R, ...], drawn without repetition, in random order."""
    return rows[torch.randperm(len(rows), generator=generator)[:num]]


def make_generator(seed: int) -> torch.Generator:
    """A CPU generator for `seed`, well mixed so that seeds 0, 1, 2 are unrelated."""
    mixed = int(hash_int64(torch.tensor(seed, dtype=torch.int64)).item())
    return torch.Generator().manual_seed(mixed & (2**63 - 1))
