"""User features that change within a session: which do, and which of them the events tell.

A simulated session begins with the user features of a logged one. What an environment observes, a
running count, a rate or a clock goes on changing in the world; a simulator that keeps it as it was
trains a policy on states that there are not, and whatever reads such a feature never moves. So each
feature whose value changes inside logged sessions is found, and its change predicted from the
event:

    x' = x + A [x, y, d, g, 1, t] + B [x, y, d, g, 1] / (t + 1)

by least squares, with the responses y, the dwell time d and the time g since the last event, in
minutes, and the step t. It holds counts, clocks, decays and running means. A feature is *known*
where this explains nearly all of the change on later days; the simulators then move it. The others
stay as they were, and the stage says so. Ours.

Symbols: `R` pairs of events, `U` user features, `V` of them known, `I` inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recomind.artifacts import Manifest, load_tensors, save_tensors
from recomind.data import SessionDataset
from recomind.errors import SchemaError
from recomind.simulation.config import Moving
from recomind.types import SessionState

_FILE, _EXTRA = "moving.safetensors", "moving_features"
_TENSORS = ("column_V", "weight_IV", "low_V", "high_V")
_CHANGE = 1e-5  # least difference that is no rounding
_MOVES = 0.001  # share of the pairs at which a feature changes, below which it is a correction
KNOWN = 0.95  # share of the squared change that must be explained
_MAX_PAIRS = 100_000
_RIDGE = 1e-6


@dataclass(slots=True)
class MovingFeatures:
    """How the known ones go on; the others are named."""

    column_V: Tensor  # int64, of the user features
    weight_IV: Tensor  # float32
    low_V: Tensor  # float32, the range in the logs, which a simulated value keeps to
    high_V: Tensor
    explained: dict[str, float] = field(default_factory=dict)  # moving feature -> share explained

    @property
    def frozen(self) -> list[str]:
        """Names of the moving features that events do not tell."""
        return [name for name, share in self.explained.items() if share < KNOWN]

    def after(self, state: SessionState) -> Tensor:
        """User features [B, U] after the latest event of `state` [B], which has those before it."""
        inputs_BI = _inputs(
            state.user_features,
            state.history_feedback[:, -1],
            state.history_dwell_s[:, -1],
            state.history_gap_s[:, -1],
            state.step - 1,
        )
        moved_BV = state.user_features[:, self.column_V] + inputs_BI @ self.weight_IV
        moved_BV = torch.minimum(torch.maximum(moved_BV, self.low_V), self.high_V)
        return state.user_features.index_copy(1, self.column_V, moved_BV)


def fit_moving(
    dataset: SessionDataset, rows: Tensor, later: Tensor, how: Moving
) -> MovingFeatures | None:
    """Find the features that move in the sessions of `rows`, and how.

    Args:
        dataset: the logs.
        rows: events that the simulator is fitted to.
        later: events that decide what is known; where there are none, `rows` do.
        how: `simulation.moving_features`.

    Returns:
        None where nothing moves or nothing is to be moved.

    Raises:
        SchemaError: a feature moves in a way that events do not tell, and `how` refuses that.
    """
    first = _pairs(dataset, rows)
    before_RU, after_RU = dataset.user_features(first), dataset.user_features(first + 1)
    moves_U = ((after_RU - before_RU).abs() > _CHANGE).double().mean(0) > _MOVES
    columns = moves_U.nonzero()[:, 0] if len(first) else torch.zeros(0, dtype=torch.int64)
    if how is Moving.freeze or len(columns) == 0:
        return None
    weight_IM = _least_squares(_event_inputs(dataset, first), (after_RU - before_RU)[:, columns])
    check = _pairs(dataset, later)
    share_M = _explained(dataset, check if len(check) else first, columns, weight_IM)
    names = [dataset.user_feature_names[u] for u in columns.tolist()]
    known = share_M >= KNOWN
    found = MovingFeatures(
        column_V=columns[known],
        weight_IV=weight_IM[:, known],
        low_V=after_RU.amin(0)[columns[known]],
        high_V=after_RU.amax(0)[columns[known]],
        explained=dict(zip(names, share_M.tolist(), strict=True)),
    )
    if how is Moving.refuse and found.frozen:
        raise SchemaError(
            "user features change within a session in a way that its events do not tell",
            got=found.frozen,
            expected="features known at the start, or functions of the events",
            mend="leave them out, or compute them from responses, dwell times and the clock; "
            "simulation.moving_features=learn keeps them as they were at the start",
        )
    return found


def _pairs(dataset: SessionDataset, rows: Tensor) -> Tensor:
    """Rows [R] that the next row follows in the same session."""
    rows = rows[rows + 1 < len(dataset)]
    rows = rows[dataset.session_index(rows) == dataset.session_index(rows + 1)]
    return rows[:: -(-len(rows) // _MAX_PAIRS)] if len(rows) else rows


def _event_inputs(dataset: SessionDataset, rows: Tensor) -> Tensor:
    state = dataset.state(rows)
    return _inputs(
        state.user_features,
        dataset.labels(rows),
        dataset.dwell_s(rows),
        state.gap_s,
        dataset.position(rows),
    )


def _inputs(
    features_BU: Tensor, feedback_BH: Tensor, dwell_B: Tensor, gap_B: Tensor, step_B: Tensor
) -> Tensor:
    """[B, I] float32."""
    minutes_B2 = torch.stack([dwell_B, gap_B], dim=1) / 60.0
    one_B1, step_B1 = torch.ones_like(minutes_B2[:, :1]), step_B.float()[:, None]
    event = torch.cat([features_BU, feedback_BH.float(), minutes_B2, one_B1], dim=1)
    return torch.cat([event, step_B1, event / (step_B1 + 1.0)], dim=1)


def _least_squares(inputs_RI: Tensor, change_RM: Tensor) -> Tensor:
    """[I, M] float32, with as little ridge as makes collinear inputs harmless."""
    inputs, change = inputs_RI.double(), change_RM.double()
    gram = inputs.T @ inputs
    gram += _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    return torch.linalg.solve(gram, inputs.T @ change).float()


def _explained(dataset: SessionDataset, rows: Tensor, columns: Tensor, weight_IM: Tensor) -> Tensor:
    """[M] share of the squared change that is predicted; 1 where nothing changes there."""
    change = (dataset.user_features(rows + 1) - dataset.user_features(rows))[:, columns].double()
    error = change - (_event_inputs(dataset, rows) @ weight_IM).double()
    return 1.0 - error.square().sum(0) / change.square().sum(0).clamp(min=1e-12)


def save_moving(staging: Path, moving: MovingFeatures | None, manifest: Manifest) -> None:
    """Write how features move, where some do; the manifest names every feature that does."""
    if moving is None:
        return
    manifest.extra[_EXTRA] = moving.explained
    if len(moving.column_V):
        save_tensors(staging / _FILE, {name: getattr(moving, name) for name in _TENSORS})


def load_moving(folder: Path, extra: Mapping[str, Any]) -> MovingFeatures | None:
    """What `save_moving` wrote into an artifact; None where nothing moves."""
    if not (folder / _FILE).is_file():
        return None
    return MovingFeatures(**load_tensors(folder / _FILE), explained=extra[_EXTRA])
