"""Numbers that are none are refused where they arise: in no log, no replay and no checkpoint.

A probability that is NaN is below every draw, so that nothing happens and nobody ever leaves:
without these checks a model that diverged looks like a quiet session.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from recomind.errors import RecomindError, SchemaError
from recomind.types import Response, SessionState


def require_finite_probabilities(members_EBH: Tensor, names: Sequence[str], step_B: Tensor) -> None:
    """Every member's probability of every task.

    Args:
        members_EBH: [E, B, H]; E is 1 where there is no ensemble.
        names: of the H tasks.
        step_B: [B], the step that each session is at.

    Raises:
        RecomindError: one is not finite; it names the member, the step and the task.
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
        mend="check the ranker with its quality report; it may have diverged",
    )


def require_finite_event(state: SessionState, response: Response, valid: Tensor) -> None:
    """What a log keeps of an event, where the session had not ended (`valid` [B]).

    Raises:
        SchemaError: a number is not finite; it names the field and the step.
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
                mend="look into the environment that gave it",
            )


def _sums_up(values: Tensor) -> bool:
    """Whether the sum is finite, and each of the values with it.

    One pass, where a look at each takes five; a sum that overflows says nothing of the values.
    """
    return math.isfinite(float(values.detach().sum()))
