"""The logs and the start of a later round's ranker, and what keeps it from getting worse.

A round's ranker is judged on the later sessions of its own fresh logs, which neither it nor the
last round's ranker was fitted to, and which nobody was held out of for a simulator. The figure is
the log-loss of the tasks that the reward weighs. It does not tell all that a greedy choice among
sixty candidates needs (ADR 7), but a ranker that is shown to be worse in it is worse. Ours.

Symbols: `R` rows, `S` sessions, `H` tasks.
"""

# Torch's stubs leave the types of some members open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from recomind.data import SessionDataset
from recomind.pipeline.run import Round
from recomind.ranker import RefitOn, predict
from recomind.rewards import task_weights
from recomind.streams import draw_rows, make_generator
from recomind.types import Ranker

_MAX_ROWS = 40_000
_FEW = 100  # sessions below which nothing is compared
_CLEAR = 2.0  # standard errors of a mean difference that is no chance


@dataclass(frozen=True, slots=True)
class Refit:
    """One way to fit a round's ranker."""

    name: str
    folders: tuple[Path, ...]  # sessions that it is fitted to
    warm: bool = False  # from the last round's weights, not from fresh ones


def ways_to_refit(round: Round) -> list[Refit]:
    """Those that `ranker.refit_on` says; more than one are to be compared.

    The first round has logs of one kind alone.
    """
    folders = tuple(round.session_folders)
    whole, own = Refit("all", folders), Refit("own", folders[1:])
    if round.is_first:
        return [whole]
    ways = {
        RefitOn.own: [own],
        RefitOn.all: [whole],
        RefitOn.auto: [own, whole, Refit("warm", folders, warm=True)],
    }
    return ways[round.config.ranker.refit_on]


class HeldOut:
    """The later sessions of a round's fresh logs, on which rankers are compared."""

    def __init__(self, round: Round) -> None:
        length = round.config.ranker.history_length
        self._dataset = SessionDataset.load([round.path("sessions")], length)
        rows = self._dataset.rows("test", holdout=False)
        self._rows = draw_rows(rows, _MAX_ROWS, make_generator(0)).sort().values
        self._weights: Mapping[str, float] = round.run.weights

    def losses(self, ranker: Ranker) -> Tensor:
        """[S] log-loss, by the reward's weights, of each session's mean event."""
        logits_RH, labels_RH = predict(ranker, self._dataset, self._rows)
        weight_H = task_weights(ranker.tasks, self._weights).abs()
        loss = nn.functional.binary_cross_entropy_with_logits
        loss_R = loss(logits_RH, labels_RH.float(), reduction="none") @ (weight_H / weight_H.sum())
        _, session_R = self._dataset.session_index(self._rows).unique(return_inverse=True)
        num_S = torch.bincount(session_R)
        return torch.zeros(len(num_S)).index_add_(0, session_R, loss_R) / num_S


def is_worse(ours_S: Tensor, theirs_S: Tensor) -> bool:
    """Whether the first of two rankers is shown to lose more, on the same sessions."""
    if len(ours_S) < _FEW:
        return False
    difference_S = (ours_S - theirs_S).double()
    error = float(difference_S.std()) / math.sqrt(len(difference_S))
    return float(difference_S.mean()) > _CLEAR * error
