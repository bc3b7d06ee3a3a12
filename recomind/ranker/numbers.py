"""Numerical features for a network: each becomes a few steps of a line, and the line itself."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn

from recomind.errors import SchemaError

_SPAN = 4.0  # standard deviations that steps cover before they are fitted, and the line ever


class PiecewiseLinear(nn.Module):
    """Piecewise linear encoding of numbers, with the bins at training quantiles.

    Number `x` becomes, for each of its bins [l, r], min(max((x - l) / (r - l), 0), 1): Gorishniy,
    Rubachev, Babenko, "On embeddings for numerical features in tabular deep learning", NeurIPS
    2022, equation 1, here with both ends clipped, so that a value outside anything seen in
    training cannot carry a score away. The standardised number itself, clipped, stands beside its
    steps: what is a straight line need not be put together from them (ours). Steps are centred at
    their training means, since steps of one number rise together: uncentred, a linear layer over
    them is ill-conditioned, and on KuaiRand the same layer stops .001 AUC short of where it stops
    centred.

    Args:
        num_features: F.
        num_bins: Q, bins a feature; a feature of fewer values has some bins of no width.
    """

    low: Tensor  # [F, Q]
    inverse_width: Tensor  # [F, Q]
    step_mean: Tensor  # [F, Q]
    mean: Tensor  # [F]
    scale: Tensor  # [F]

    def __init__(self, num_features: int, num_bins: int) -> None:
        super().__init__()
        self.num_features, self.num_bins = num_features, num_bins
        edges = torch.linspace(-_SPAN, _SPAN, num_bins + 1).expand(num_features, -1)
        self.register_buffer("low", edges[:, :-1].clone())
        self.register_buffer("inverse_width", 1.0 / edges.diff(dim=1))
        self.register_buffer("step_mean", torch.zeros(num_features, num_bins))
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("scale", torch.ones(num_features))

    @property
    def width(self) -> int:
        """Numbers that come out, F * (Q + 1)."""
        return self.num_features * (self.num_bins + 1)

    @torch.no_grad()
    def only(self, features: list[int]) -> PiecewiseLinear:
        """The encoding of some of the features alone, with the bins of this one."""
        few = PiecewiseLinear(len(features), self.num_bins).to(self.low.device)
        for name, buffer in few.named_buffers():
            buffer.copy_(getattr(self, name)[features])
        return few

    def columns(self, features: list[int]) -> list[int]:
        """Which of the numbers that come out are of `features`, in the order of `only`."""
        first = self.num_features
        steps = [
            range(first + f * self.num_bins, first + (f + 1) * self.num_bins) for f in features
        ]
        return [*features, *chain.from_iterable(steps)]

    @torch.no_grad()
    def fit(self, values: Tensor) -> None:
        """Take the bins from rows [R, F].

        Raises:
            SchemaError: no rows, or a value that is not finite.
        """
        if len(values) == 0 or not bool(values.isfinite().all()):
            raise SchemaError("features to take bins from must be finite rows", got=values.shape)
        if self.num_features == 0:
            return
        at = torch.linspace(0, 1, self.num_bins + 1, dtype=torch.float64)
        edges = torch.quantile(values.double(), at, dim=0).T
        self.low.copy_(edges[:, :-1])
        # A bin of no width is a step where its value is exceeded: what is equal stays at 0.
        self.inverse_width.copy_(1.0 / edges.diff(dim=1).clamp(min=1e-6))
        sums = [self._steps(chunk).sum(0) for chunk in values.split(4096)]
        self.step_mean.copy_(torch.stack(sums).sum(0) / len(values))
        self.mean.copy_(values.mean(0))
        self.scale.copy_(values.std(0, correction=0).clamp(min=1e-3))

    def forward(self, values: Tensor) -> Tensor:
        """Encoded values [..., F * (Q + 1)] of values [..., F]."""
        steps = self._steps(values) - self.step_mean
        line = ((values - self.mean) / self.scale).clamp(-_SPAN, _SPAN)
        return torch.cat([line, steps.flatten(-2)], dim=-1)

    def _steps(self, values: Tensor) -> Tensor:
        """[..., F, Q] in [0, 1]: how much of each bin a value fills."""
        # In place: each of the three results is Q times as large as what comes in.
        return (values[..., None] - self.low).mul_(self.inverse_width).clamp_(0.0, 1.0)
