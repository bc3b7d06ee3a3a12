"""NaN and infinity are refused where they arise, before they reach a log, replay or checkpoint.

Every draw is above a probability that is NaN, so nothing happens and nobody ever leaves: without
these checks a model that diverged looks like a quiet session.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from recomind.errors import RecomindError, SchemaError
from recomind.types import Response, SessionState


def require_finite_probabilities(members_EBH: Tensor, names: Sequence[str], step_B: Tensor) -> None:
    """Check every member's probability of every task.

    Args:
        members_EBH: [E, B, H]; E is 1 where there is no ensemble.
        names: the H tasks.
        step_B: [B], the step that each session is at.

    Raises:
        RecomindError: one is not finite; the error names the member, the step and the task.
    """
    if _sums_up(members_EBH):
        return
    finite_EBH = torch.isfinite(members_EBH)
    if bool(finite_EBH.all()):
        return
    member, row, task = (int(i) for i in (~finite_EBH).nonzero()[0])
    raise RecomindError(
        "the response model gave a probability that is not finite",
        got=f"{float(members_EBH[member, row, task])} for {names[task]} at step {int(step_B[row])} "
        f"from member {member} of {len(members_EBH)}",
        mend="see the ranker's quality report; it may have diverged",
    )


def require_finite_event(state: SessionState, response: Response, valid: Tensor) -> None:
    """Check what a log keeps of an event, where the session had not ended (`valid` [B]).

    Raises:
        SchemaError: a number is not finite; the error names the field and the step.
    """
    fields = {
        "response.dwell_s": response.dwell_s,
        "state.gap_s": state.gap_s,
        "state.user_features": state.user_features,
    }
    for name, value in fields.items():
        if _sums_up(value):
            continue
        bad = ~torch.isfinite(value).flatten(1).all(1) if value.dim() > 1 else ~value.isfinite()
        bad &= valid
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise SchemaError(
                f"{name} is not finite",
                got=f"{value[row].tolist()} at step {int(state.step[row])}",
                mend="check the environment that returned it",
            )


def _sums_up(values: Tensor) -> bool:
    """Whether the sum is finite; then so is each value.

    One pass over memory, where a check of each value takes five. The sum may also overflow, so
    False says nothing about the values.
    """
    return math.isfinite(float(values.detach().sum()))
