"""Rounds of one decision each, under the field names of Open Bandit Pipeline.

Saito, Aihara, Matsutani, Narita: "Open Bandit Dataset and Pipeline" (NeurIPS 2021 datasets track).
`n` rounds, `A` actions, `d` features of a context, `f` of an action.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recomind.errors import ArtifactError, SchemaError
from recomind.evaluation.ope.logs import LoggedSessions, Target

FIELDS = ("context", "action", "reward", "pscore", "position", "action_context")
_REQUIRED = ("action", "reward", "pscore")


def read_feedback(source: Path | Mapping[str, Any]) -> dict[str, Tensor]:
    """Logged feedback as tensors: `FIELDS` that are there; others are left out.

    Args:
        source: a dictionary as `obp` makes one, or a `.npz` file of such arrays. What is None in it
            is taken as absent.

    Raises:
        ArtifactError: an unreadable file.
        SchemaError: a required field is absent, lengths differ, or a slate of several positions.
    """
    found = source if isinstance(source, Mapping) else _load(Path(source))
    fields = {name: found[name] for name in FIELDS if found.get(name) is not None}
    absent = [name for name in _REQUIRED if name not in fields]
    if absent:
        raise SchemaError("logged feedback lacks fields", got=sorted(fields), expected=absent)
    tensors = {name: _tensor(name, value) for name, value in fields.items()}
    lengths = {len(value) for name, value in tensors.items() if name != "action_context"}
    if len(lengths) != 1:
        raise SchemaError("logged arrays differ in length", got=sorted(lengths), expected="one n")
    if "position" in tensors and bool((tensors["position"] != 0).any()):
        raise SchemaError(
            "slates of several positions", expected="position 0 alone", mend="take one position"
        )
    return tensors


def write_feedback(path: Path, feedback: Mapping[str, Tensor]) -> None:
    """Write `.npz` with the same names, that `obp` and `read_feedback` read without pickle."""
    unknown = sorted(set(feedback) - set(FIELDS))
    if unknown:
        raise SchemaError("fields of logged feedback", got=unknown, expected=FIELDS)
    arrays: dict[str, Any] = {name: value.numpy() for name, value in feedback.items()}
    np.savez(path, **arrays)


def bandit_sessions(
    feedback: Mapping[str, Tensor], action_dist: Tensor, q: Tensor | None = None
) -> tuple[LoggedSessions, Target]:
    """Rounds as sessions of one step, all actions as their candidates.

    Args:
        feedback: from `read_feedback`.
        action_dist: [n, A] or, as in `obp`, [n, A, 1]: the target policy's probabilities.
        q: [n, A] expected reward of each action, by a model.
    """
    prob_nA = action_dist[..., 0] if action_dist.dim() == 3 else action_dist
    column = {name: feedback[name][:, None] for name in _REQUIRED}
    logs = LoggedSessions(
        reward=column["reward"].double(),
        pscore=column["pscore"].double(),
        slot=column["action"].long(),
        mask=torch.ones_like(column["action"], dtype=torch.bool),
    )
    return logs, Target(prob=prob_nA[:, None], q=None if q is None else q[:, None])


def _load(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if name in FIELDS}
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError("unreadable feedback", got=f"{path}: {error}") from error


def _tensor(name: str, value: Any) -> Tensor:
    try:
        return torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError) as error:
        raise SchemaError(f"field {name} of logged feedback", got=str(error)) from error
