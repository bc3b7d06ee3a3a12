"""Response rates by position in the session, simulated beside logged.

Symbols: `S` sessions, `T` positions, `H` tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from recomind.evaluation.fidelity.absent import absent
from recomind.evaluation.fidelity.sessions import SessionTable

_FEW = 20  # sessions at a position below which its rate is left out


def position_rates(
    logged: SessionTable, simulated: SessionTable, tasks: Sequence[str]
) -> dict[str, Any]:
    """Task -> `{position, logged, simulated, n_logged, n_simulated, max_difference}`.

    A rate at a position is over the sessions that got so far; positions count from 1 and end
    where fewer than 20 sessions of either kind are left.
    """
    n_T, m_T = logged.mask_ST.sum(0), simulated.mask_ST.sum(0)
    few = (n_T.minimum(m_T) < _FEW).nonzero()
    until = int(few[0, 0]) if len(few) else len(n_T)
    if until == 0:
        return absent(f"fewer than {_FEW} sessions to compare")
    ours, theirs = _rates(logged, n_T)[:until], _rates(simulated, m_T)[:until]
    return {
        task: {
            "position": list(range(1, until + 1)),
            "logged": ours[:, h].tolist(),
            "simulated": theirs[:, h].tolist(),
            "n_logged": n_T[:until].tolist(),
            "n_simulated": m_T[:until].tolist(),
            "max_difference": float((ours[:, h] - theirs[:, h]).abs().max()),
        }
        for h, task in enumerate(tasks)
    }


def _rates(table: SessionTable, num_T: Tensor) -> Tensor:
    """[T, H] float64."""
    return table.feedback_STH.double().sum(0) / num_T.clamp(min=1)[:, None]
