"""A ranker that keeps its contract, and a log whose labels it predicts exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recomind.adapters import RowBatch
from recomind.artifacts import Manifest
from recomind.data import SessionDataset, write_sessions
from recomind.streams import hash_uniform
from recomind.types import SessionState
from simulators.video_feed.world import TASKS
from tests.simulation import tiny


class Fair:
    """Item and user add up, per task; what was seen before in `long_view` alone."""

    tasks: tuple[str, ...] = TASKS

    def encode_state(self, state: SessionState, snapshot: Tensor | None = None) -> Tensor:
        events = state.history_feedback.float() * state.history_mask[..., None]
        user = state.user_features[:, -1:].expand(-1, len(self.tasks)) * self.of_user()
        return user + 0.1 * events.sum(1) * torch.tensor([0.0, 1.0, 0.0, 0.0])

    def score(self, encoding: Tensor, item_id: Tensor, snapshot: Tensor | None = None) -> Tensor:
        return item_logits(item_id) + encoding[:, None]

    def of_user(self) -> Tensor:
        return torch.tensor([0.5, 0.0, 0.0, -0.5])


def item_logits(item_id: Tensor) -> Tensor:
    """[..., H]: `watch_10s` and `hide` spread widely, `long_view` is rare, `like` near even."""
    draws = torch.stack([hash_uniform(item_id, salt) for salt in (1, 2, 3, 4)], dim=-1)
    return (draws - 0.5) * torch.tensor([6.0, 1.0, 0.2, 6.0]) - torch.tensor([0.0, 3.0, 0.0, 0.0])


def write_labelled(folder: Path) -> Path:
    """The tiny log with labels drawn from `Fair`; `long_view` never happens, `like` is a coin."""
    frame = tiny.tiny_frame()
    generator = np.random.default_rng(0)
    item_id = torch.from_numpy(frame["item_id"].to_numpy().copy())
    user = torch.from_numpy(frame["u_activity"].to_numpy().copy())[:, None]
    chance = (item_logits(item_id) + user * Fair().of_user()).sigmoid().numpy()
    chance[:, 1], chance[:, 2] = 0.0, 0.5
    labels = (generator.random(chance.shape) < chance).astype(np.uint8)
    columns = [pl.Series(task, labels[:, i]) for i, task in enumerate(TASKS)]
    manifest = Manifest(kind="sessions")
    write_sessions(
        folder, frame.with_columns(columns), tiny.tiny_catalogue(), tasks=TASKS, manifest=manifest
    )
    return folder


def labelled(folder: Path) -> SessionDataset:
    return SessionDataset.load([write_labelled(folder / "sessions")], tiny.LENGTH)


class FlatModel(torch.nn.Module):
    """An external model of two tasks: `Fair` on flat rows."""

    def __init__(self, sign: float = 1.0) -> None:
        super().__init__()
        self.sign = torch.nn.Parameter(torch.tensor(sign))

    def forward(self, logits: Tensor) -> Tensor:
        return (self.sign * logits).sigmoid()


def inputs(rows: RowBatch) -> Tensor:
    """`watch_10s` and `hide`."""
    return (item_logits(rows.item_id) + rows.state.user_features[:, -1:] * Fair().of_user())[
        :, [0, 3]
    ]
