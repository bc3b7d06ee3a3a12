"""States and candidates that a ranker is tried on.

Symbols: `B` states, `K` candidates, `L` history events, `H` tasks, `U` user features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from recomind.data import SessionDataset
from recomind.errors import SchemaError
from recomind.streams import draw_rows
from recomind.types import Catalogue, Ranker, SessionState

NUM_STATES, NUM_CANDIDATES = 24, 12
_DEFAULT_LENGTH = 16


@dataclass(slots=True)
class Probe:
    """The states and candidates that a ranker is asked about in every check."""

    state: SessionState  # [B], B >= 2
    item_id: Tensor  # [B, K] int64, distinct within a row where the catalogue allows
    unseen: Tensor  # [V] int64, items that no training row shows; without a log, any

    def copy(self) -> Probe:
        """One that a ranker may spoil."""
        return Probe(self.state.clone(), self.item_id.clone(), self.unseen.clone())


def make_probe(
    ranker: Ranker,
    catalogue: Catalogue,
    generator: torch.Generator,
    *,
    state: SessionState | None = None,
    dataset: SessionDataset | None = None,
) -> Probe:
    """States of the log where there is one, else the given ones, else drawn from the catalogue."""
    if dataset is not None:
        state = dataset.state(_rows(dataset, generator))
    if state is None:
        state = draw_states(ranker, catalogue, NUM_STATES, generator)
    if len(state.step) < 2:
        raise SchemaError("too few states to check with", got=len(state.step), expected=">= 2")
    seen = torch.zeros(0, dtype=torch.int64)
    if dataset is not None:
        seen = dataset.item_id(dataset.rows("train")).unique()
    item_id = _candidates(catalogue, seen, len(state.step), generator)
    return Probe(state, item_id, _unseen(catalogue, seen, generator))


def draw_states(
    ranker: Ranker, catalogue: Catalogue, num: int, generator: torch.Generator
) -> SessionState:
    """States [num] with histories of 0 to L random events of the catalogue's items.

    L and U are the ranker's own where it has `config.history_length` and `num_user_features`.
    """
    config = getattr(ranker, "config", None)
    length = int(getattr(config, "history_length", _DEFAULT_LENGTH))
    num_user_features = int(getattr(ranker, "num_user_features", 0))
    shape = (num, length)
    count = torch.randint(length + 1, (num, 1), generator=generator)
    mask = torch.arange(length, 0, -1) <= count
    item_id = torch.randint(catalogue.num_items, shape, generator=generator)
    feedback = torch.rand(*shape, len(ranker.tasks), generator=generator) < 0.3
    seconds = -20.0 * torch.rand(*shape, generator=generator).clamp(min=1e-6).log()
    fields = {
        "user_id": torch.randint(1_000_000, (num,), generator=generator),
        "user_features": torch.randn(num, num_user_features, generator=generator),
        "history_item_id": item_id * mask,
        "history_feedback": feedback & mask[..., None],
        "history_dwell_s": seconds * mask,
        "history_gap_s": 3.0 * seconds * mask,
        "history_mask": mask,
        "gap_s": seconds[:, 0] * mask[:, -1],
        "step": (torch.rand(num, generator=generator) * (count[:, 0] + 1)).long(),
    }
    return state_from(fields)


def state_fields(state: SessionState) -> dict[str, Tensor]:
    """The fields of `state` [B] by name."""
    return cast(dict[str, Tensor], dict(state.to_tensordict().items()))


def state_from(fields: Mapping[str, Any]) -> SessionState:
    """The state [B] of the given fields."""
    return SessionState(**fields, batch_size=[len(fields["step"])])


def joined(first: SessionState, second: SessionState) -> SessionState:
    """The states of both, one after the other."""
    ours, theirs = state_fields(first), state_fields(second)
    return state_from({name: torch.cat([ours[name], theirs[name]]) for name in ours})


def without_history(state: SessionState) -> SessionState:
    """The same users [B] at step 0 with nothing but padding behind them."""
    fields = state_fields(at_step_0(_with_history(state, torch.zeros_like)))
    return state_from(fields | {"gap_s": torch.zeros_like(state.gap_s)})


def at_step_0(state: SessionState) -> SessionState:
    """The same users and histories [B] at the beginning of a session."""
    return state_from(state_fields(state) | {"step": torch.zeros_like(state.step)})


def latest_events(state: SessionState, num: int) -> SessionState:
    """The same users [B] with a history of length `num`: the latest events, no further padding."""
    return _with_history(state, lambda value: value[:, value.shape[1] - num :])


def padded(state: SessionState, num: int) -> SessionState:
    """The same users [B] with `num` more columns of padding on the left."""

    def pad(value: Tensor) -> Tensor:
        return torch.cat([value.new_zeros(len(value), num, *value.shape[2:]), value], dim=1)

    return _with_history(state, pad)


def _with_history(state: SessionState, change: Callable[[Tensor], Tensor]) -> SessionState:
    """`state` [B] with every history tensor changed; it cannot be in a step that it has not had."""
    fields = state_fields(state)
    history = {k: change(v) for k, v in fields.items() if k.startswith("history_")}
    num_events = history["history_mask"].sum(1)
    return state_from(fields | history | {"step": torch.minimum(state.step, num_events)})


def _rows(dataset: SessionDataset, generator: torch.Generator) -> Tensor:
    """Rows [B] of the log, later days first choice; a quarter of them open a session."""
    later = dataset.rows("calibration", "test")
    rows = later if len(later) >= NUM_STATES else dataset.rows()
    if len(rows) == 0:
        raise SchemaError("the log holds no impressions to check with")
    starts = dataset.session_starts()
    return torch.cat(
        [_some(starts, NUM_STATES // 4, generator), _some(rows, NUM_STATES, generator)]
    )


def _some(rows: Tensor, num: int, generator: torch.Generator) -> Tensor:
    return draw_rows(rows, num, generator)


def _candidates(catalogue: Catalogue, seen: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """Items [num, K] that training showed, or any where that is not known.

    A lattice rather than independent draws, so that the candidates of a state are distinct.
    """
    size = len(seen) or catalogue.num_items
    first = torch.randint(size, (num, 1), generator=generator)
    stride = max(1, size // NUM_CANDIDATES)
    index = (first + stride * torch.arange(NUM_CANDIDATES)).remainder(size)
    return seen[index] if len(seen) else index


def _unseen(catalogue: Catalogue, seen: Tensor, generator: torch.Generator) -> Tensor:
    """Items [V] that are not among `seen`, at most as many as there are candidates."""
    drawn = torch.randint(catalogue.num_items, (4096,), generator=generator).unique()
    return _some(drawn[~torch.isin(drawn, seen)], NUM_CANDIDATES, generator)
