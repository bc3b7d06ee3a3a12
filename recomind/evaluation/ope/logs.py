"""Logged sessions with propensities, and the policy that they are to judge.

Symbols: `S` sessions, `T` steps, `K` candidates of a decision. A decision is known by its candidate
set alone, never by the catalogue, so that memory does not grow with the number of items. Slates of
one item; a slate of more would be an axis of slots before `K`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recomind.errors import ConfigError, SchemaError

_SUM_TOLERANCE = 1e-4  # by which the probabilities of a decision may miss 1


@dataclass(kw_only=True, slots=True)
class LoggedSessions:
    """What a logging policy did and what it earned."""

    reward: Tensor  # [S, T] float64
    pscore: Tensor  # [S, T] in (0, 1], the logging policy's probability of what it chose
    slot: Tensor  # [S, T] int64, which candidate that was
    mask: Tensor  # [S, T] bool, False after the session's end
    user_id: Tensor | None = None  # [S] int64, the clusters of an interval; None: one a session
    state_id: Tensor | None = None  # [S, T] int64, for marginalised weights
    pscore_estimated: bool = False  # by a model of the logging policy, in place of logged

    @property
    def num_steps(self) -> int:
        """T."""
        return self.reward.shape[1]


@dataclass(kw_only=True, slots=True)
class Target:
    """The policy that is judged, on the logged decisions."""

    prob: Tensor  # [S, T, K] in [0, 1], its probability of each candidate; 0 for padding
    q: Tensor | None = None  # [S, T, K] its expected return from here on, by a model


@dataclass(kw_only=True, slots=True)
class Settings:
    """How estimates are made and when none is given."""

    gamma: float = 1.0  # discount per step
    clip: float = 10.0  # largest weight of a session in clipped IPS
    switch: float = 10.0  # weight from which switch-DR trusts the model alone
    confidence: float = 0.95  # level of every interval
    min_effective: float = 30.0  # sessions that an estimate must rest on, by their weights
    min_support: float = 0.8  # share of the target's choices that the logs must cover

    def __post_init__(self) -> None:
        for name in ("gamma", "min_support"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(
                    f"{name} of an estimate", got=getattr(self, name), expected="[0, 1]"
                )
        for name in ("clip", "switch", "min_effective"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"{name} of an estimate", got=getattr(self, name), expected="> 0")


def check(logs: LoggedSessions, target: Target) -> None:
    """Refuse logs or a target that no estimate can be made from.

    Raises:
        SchemaError: shapes that differ, fewer than two sessions, a session without a step, a reward
            or Q value that is not finite, or a probability outside its range.
    """
    shape = tuple(logs.reward.shape)
    shapes = {shape} | {tuple(t.shape) for t in (logs.pscore, logs.slot, logs.mask)}
    if len(shapes) != 1 or logs.reward.dim() != 2 or shape[1] < 1:
        raise SchemaError("arrays of logged sessions", got=sorted(shapes), expected="one [S, T]")
    if shape[0] < 2:
        raise SchemaError("an interval needs at least two logged sessions", got=shape[0])
    if target.prob.dim() != 3 or tuple(target.prob.shape[:2]) != shape:
        raise SchemaError(
            "probabilities of the target policy",
            got=tuple(target.prob.shape),
            expected=f"[{shape[0]}, {shape[1]}, K]",
        )
    if not bool(logs.mask[:, 0].all()):
        raise SchemaError("a logged session has no step", mend="leave it out")
    if bool((logs.mask[:, 1:] & ~logs.mask[:, :-1]).any()):
        raise SchemaError("a logged session goes on after its end", mend="mask a prefix")
    mask = logs.mask
    if not bool(torch.isfinite(logs.reward[mask]).all()):
        raise SchemaError("a logged reward is not a finite number")
    _check_propensities(logs.pscore[mask])
    slot = logs.slot[mask]
    if bool(((slot < 0) | (slot >= target.prob.shape[2])).any()):
        raise SchemaError(
            "a logged choice is not among its candidates",
            got=f"slots {int(slot.min())} to {int(slot.max())}",
            expected=f"0 to {target.prob.shape[2] - 1}",
        )
    _check_target(target, mask)
    for name in ("user_id", "state_id"):
        values = getattr(logs, name)
        expected = shape[:1] if name == "user_id" else shape
        if values is not None and tuple(values.shape) != expected:
            raise SchemaError(
                f"{name} of logged sessions", got=tuple(values.shape), expected=expected
            )


def _check_propensities(pscore: Tensor) -> None:
    missing = int(torch.isnan(pscore).sum())
    if missing:
        raise SchemaError(
            "logged propensities are missing",
            got=f"{missing:,} of {len(pscore):,}",
            mend="log them, or fit a model of the logging policy and say that they are estimated",
        )
    wrong = ~((pscore > 0) & (pscore <= 1))
    if bool(wrong.any()):
        raise SchemaError(
            "logged propensities",
            got=f"{int(wrong.sum()):,} outside the range, such as {float(pscore[wrong][0]):.6g}",
            expected="each in (0, 1]",
        )


def _check_target(target: Target, mask: Tensor) -> None:
    prob = target.prob[mask].double()
    if not bool(((prob >= 0) & (prob <= 1)).all()):
        raise SchemaError("probabilities of the target policy", expected="each in [0, 1]")
    gap = float((prob.sum(1) - 1.0).abs().max())
    if gap > _SUM_TOLERANCE:
        raise SchemaError(
            "probabilities of the target policy over a decision's candidates",
            got=f"sums that miss 1 by up to {gap:.3g}",
            expected="sums of 1",
        )
    if target.q is None:
        return
    if target.q.shape != target.prob.shape:
        got = tuple(target.q.shape)
        raise SchemaError("Q values", got=got, expected=tuple(target.prob.shape))
    if not bool(torch.isfinite(target.q[mask][prob > 0]).all()):
        raise SchemaError("a Q value of a candidate is not a finite number")
