"""Scores that are not finite are refused, with an error that names where they came from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recomind.errors import RecomindError

_MEND = "see the ranker's quality report and check the state's features; a model may have diverged"


def require_finite_logits(
    logits_BKH: Tensor, mask_BK: Tensor, tasks: Sequence[str], step_B: Tensor, member: int
) -> None:
    """Check a ranker's logits of the candidates inside the mask.

    Raises:
        RecomindError: one is NaN; the error names the member, the step and the task.
    """
    bad_BKH = logits_BKH.isnan() & mask_BK[..., None]
    if bool(bad_BKH.any()):
        row, _, task = (int(i) for i in bad_BKH.nonzero()[0])
        raise RecomindError(
            "a ranker's score is not a number",
            got=f"nan for {tasks[task]} at step {int(step_B[row])} from member {member}",
            mend=_MEND,
        )


def require_finite_q(q_BK: Tensor, utility_BK: Tensor, mask_BK: Tensor, step_B: Tensor) -> None:
    """Check Q [B, K] and the ranker's utility [B, K] of the candidates inside the mask.

    Raises:
        RecomindError: one is not finite; the error names the step and the part at fault.
    """
    bad_BK = ~(torch.isfinite(q_BK) & torch.isfinite(utility_BK)) & mask_BK
    if bool(bad_BK.any()):
        row, slot = (int(i) for i in bad_BK.nonzero()[0])
        of_ranker = not bool(utility_BK[row, slot].isfinite())
        raise RecomindError(
            "the policy's value of a candidate is not finite",
            got=f"{float(q_BK[row, slot])} at step {int(step_B[row])} from "
            + ("the ranker that it started from" if of_ranker else "its residual"),
            mend=_MEND,
        )
