"""The layers of a ranker that read the user, over sessions that go on.

Symbols: `B` sessions, `U` user features, `T` tallies, `S` sums of the pool, `M` hidden width,
`H` tasks.

The first layer over a state is a sum over its inputs, and most of its inputs are the encoded
numbers of the user: the features, which stay the same all session, and tallies, of which some are
0 or 1. The sum over the features is kept from step to step. A tally of 0 or 1 needs one column
instead of one per bin: `W e(x) = W e(0) + x W (e(1) - e(0))`. The result is the same except for
rounding. Ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recomind.ranker import SessionRanker, Stamp
from recomind.ranker.history import StateParts, num_tallies, yes_no_tallies
from recomind.ranker.numbers import PiecewiseLinear
from recomind.types import SessionState

_MULTIPLE = 16


@dataclass(slots=True)
class _Folded:
    """Both layers over the user side by side, [.., 2M + H], their inputs apart.

    Padded with zeros to a multiple of 16: the product is then a tenth faster.
    """

    static: PiecewiseLinear  # encodes the user features
    of_static: Tensor  # [2M + H, U * (Q + 1)]
    constant: Tensor  # [2M + H]: biases, and tallies of 0 or 1 where they are 0
    numbers: PiecewiseLinear  # encodes the other tallies
    of_rest: Tensor  # [S + others * (Q + 1) + yes/no + progress, 2M + H]
    width: int  # 2M


class RunningUsers:
    """A ranker's layers over pool, user and progress; see `SessionRanker.encoding_of`."""

    def __init__(self, ranker: SessionRanker) -> None:
        self.ranker, self._layers = ranker, list(ranker.state)[1:]
        self.clear_cache()

    def clear_cache(self) -> None:
        """Compute everything again at the next state."""
        self._stamp = Stamp()
        self._features_BU: Tensor | None = None
        self._kept_version = 0

    def __call__(
        self, state: SessionState, pooled_BS: Tensor, parts: StateParts
    ) -> tuple[Tensor, Tensor]:
        """The state part of the first layer [B, M], and of the logits [B, H]."""
        self._fold()
        folded, ranker = self._folded, self.ranker
        inputs = [
            pooled_BS,
            folded.numbers(parts.tallies_BT[:, self._others]),
            parts.tallies_BT[:, self._yes_no],
            parts.progress_B5,
        ]
        rest = torch.cat(inputs, dim=1)
        both = torch.addmm(self._static(state.user_features), rest, folded.of_rest)
        width, num_tasks = folded.width, len(ranker.tasks)
        first_BM, wide_BH = both[:, :width], both[:, width : width + num_tasks]
        for layer in self._layers:
            first_BM = layer(first_BM)
        return first_BM, wide_BH

    def _static(self, features_BU: Tensor) -> Tensor:
        """[B, 2M + H] of the user features and constants, computed where a user is another one."""
        kept = self._features_BU
        if kept is None or kept.shape != features_BU.shape or kept._version != self._kept_version:
            self._static_BN = self._of_features(features_BU)
        elif features_BU is not kept:
            rows = (features_BU != kept).any(1).nonzero()[:, 0]
            if 2 * len(rows) > len(features_BU):
                self._static_BN = self._of_features(features_BU)
            elif len(rows):
                self._static_BN.index_copy_(0, rows, self._of_features(features_BU[rows]))
        self._features_BU, self._kept_version = features_BU, features_BU._version
        return self._static_BN

    def _of_features(self, features_nU: Tensor) -> Tensor:
        folded = self._folded
        return torch.addmm(folded.constant, folded.static(features_nU), folded.of_static.mT)

    def _fold(self) -> None:
        """Take the weights apart where they have changed since the last time."""
        ranker = self.ranker
        parts = (ranker.state[0], ranker.wide_user, ranker.users)
        if self._stamp.is_of(parts):
            return
        self._stamp, self._features_BU = Stamp(parts), None
        self._folded = self._apart()

    def _apart(self) -> _Folded:
        ranker, users = self.ranker, self.ranker.users
        num_static, num_tasks = ranker.num_user_features, len(ranker.tasks)
        yes_no = yes_no_tallies(num_tasks)
        others = [t for t in range(num_tallies(num_tasks)) if t not in yes_no]
        self._yes_no, self._others = (torch.tensor(index) for index in (yes_no, others))
        of_pool, of_user, of_progress, bias = _side_by_side(ranker)
        static, binary, rest = (
            list(range(num_static)),
            [num_static + t for t in yes_no],
            [num_static + t for t in others],
        )
        zero_and_one = users.only(binary)(torch.tensor([[0.0], [1.0]]).expand(2, len(binary)))
        of_binary = of_user[:, users.columns(binary)]
        change = (zero_and_one[1] - zero_and_one[0]) * of_binary
        return _Folded(
            static=users.only(static),
            of_static=of_user[:, users.columns(static)],
            constant=bias + of_binary @ zero_and_one[0],
            numbers=users.only(rest),
            of_rest=torch.cat(
                [
                    of_pool,
                    of_user[:, users.columns(rest)],
                    _per_feature(change, len(binary)),
                    of_progress,
                ],
                dim=1,
            ).mT.contiguous(),
            width=2 * ranker.config.hidden,
        )


def _side_by_side(ranker: SessionRanker) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights over pool, user and progress, and biases, of the state layer and the wide one."""
    first, wide = ranker.state[0], ranker.wide_user
    assert isinstance(first, nn.Linear)
    width = ranker.users.width
    num_pool = ranker.pool.num_sums * ranker.config.dim
    num_progress = first.in_features - num_pool - width
    of_pool, of_user, of_progress = first.weight.split([num_pool, width, num_progress], dim=1)
    num_tasks = len(ranker.tasks)
    padding = -(len(first.bias) + num_tasks) % _MULTIPLE
    pad = nn.functional.pad
    return (
        pad(of_pool, (0, 0, 0, num_tasks + padding)),
        pad(torch.cat([of_user, wide.weight]), (0, 0, 0, padding)),
        pad(of_progress, (0, 0, 0, num_tasks + padding)),
        pad(torch.cat([first.bias, wide.bias]), (0, padding)),
    )


def _per_feature(columns: Tensor, num_features: int) -> Tensor:
    """Sums [N, F] over the columns [N, F * (Q + 1)] of each feature, in the order of `only`."""
    line, steps = columns[:, :num_features], columns[:, num_features:]
    return line + steps.unflatten(1, (num_features, -1)).sum(2)
