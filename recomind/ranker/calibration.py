"""Calibration: the map fitted on later days, and the curve that shows how well it holds.

Symbols: `H` tasks, `Q` knots, `R` rows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.special import logit
from torch import Tensor, nn

from recomind.errors import SchemaError

_NUM_KNOTS = 17
_MIN_RISE = 1e-3  # from knot to knot, so that no equal scores are made
_FEW = 50  # labels of either kind below which only the offset moves
_FOLDS = 5
_LEAST_SLOPE = 0.05  # of the straight line: a map must rise
_SURE = 20.0  # a logit of no chance at all
_CERTAIN = 1e4  # logits beyond are cut while fitting, or its line search overflows


class Calibration(nn.Module):
    """A monotone map from raw to calibrated logits, one per task; starts as the identity.

    `logit -> slope * logit + offset`, and for a task that asks for it a line through knots after
    that. Strictly increasing, so that it never makes two candidates equal that were not.
    """

    slope: Tensor  # [H]
    offset: Tensor  # [H]
    bent: Tensor  # [H] bool, whether the knots apply
    knots_x: Tensor  # [H, Q] logits, increasing
    knots_y: Tensor  # [H, Q] calibrated logits, increasing

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        knots = torch.linspace(-8, 8, _NUM_KNOTS).expand(num_tasks, -1)
        self.register_buffer("slope", torch.ones(num_tasks))
        self.register_buffer("offset", torch.zeros(num_tasks))
        self.register_buffer("bent", torch.zeros(num_tasks, dtype=torch.bool))
        self.register_buffer("knots_x", knots.clone())
        self.register_buffer("knots_y", knots.clone())
        self.bends = False
        self.register_load_state_dict_post_hook(_note_bends)

    def forward(self, logits: Tensor) -> Tensor:
        """Calibrated logits [..., H] of raw logits [..., H]."""
        straight = logits * self.slope + self.offset
        if not self.bends:
            return straight
        return torch.where(self.bent, self._through_knots(straight), straight)

    def _through_knots(self, logits: Tensor) -> Tensor:
        """A sum of hinges: no search, so that it exports; slope 1 beyond the ends."""
        x_HQ, y_HQ = self.knots_x, self.knots_y
        width_HQ, rise_HQ = x_HQ.diff(dim=1), y_HQ.diff(dim=1)
        along = (logits[..., None] - x_HQ[:, :-1]).clamp(min=0.0)
        inside = (torch.minimum(along, width_HQ) * (rise_HQ / width_HQ)).sum(-1)
        below = (logits - x_HQ[:, 0]).clamp(max=0.0)
        above = (logits - x_HQ[:, -1]).clamp(min=0.0)
        return y_HQ[:, 0] + below + inside + above

    @torch.no_grad()
    def reset(self) -> None:
        """Back to the identity."""
        fresh = Calibration(len(self.slope))
        self.load_state_dict(fresh.state_dict())

    @torch.no_grad()
    def fit(self, raw_logits: Tensor, labels: Tensor) -> list[str]:
        """Fit every task on later days, and say what was chosen for each.

        Temperature with offset (Platt 1999; Guo et al., ICML 2017) or isotonic on top (Zadrozny
        and Elkan, KDD 2002), whichever has the lower log-loss over five folds of unbroken rows;
        isotonic has to win by more than a standard error, since it makes calibrated models worse.

        Args:
            raw_logits: [R, H], rows of one user side by side.
            labels: [R, H] in {0, 1}.

        Raises:
            SchemaError: logits that are not finite.
        """
        if not bool(raw_logits.isfinite().all()):
            raise SchemaError("logits to calibrate that are not finite")
        self.reset()
        raw_logits = raw_logits.clamp(-_CERTAIN, _CERTAIN)
        return [self._fit_task(h, raw_logits[:, h], labels[:, h]) for h in range(labels.shape[1])]

    def _bound(self, task: int, logits: Tensor, *, seen: bool) -> str:
        """Labels of one kind only: the mean of the other kind is half an event at most.

        A model that is sure enough stays as it is. One that is not, such as one hardly trained,
        would otherwise tell of hides in every second step where none of the log's rows has one.
        """
        sign = -1.0 if seen else 1.0
        most = 0.5 / (len(logits) + 1)  # Jeffreys' estimate of a rate that was never seen
        if not len(logits) or float((sign * logits).sigmoid().mean()) <= most:
            return "none"
        low, high = -2 * _SURE - float((sign * logits).max()), 0.0
        for _ in range(60):  # the mean rises with the offset
            middle = (low + high) / 2
            above = float((sign * logits.double() + middle).sigmoid().mean()) > most
            low, high = (low, middle) if above else (middle, high)
        self.offset[task] = sign * low
        return "offset"

    def _fit_task(self, task: int, logits: Tensor, labels: Tensor) -> str:
        positive = int(labels.sum())
        few = min(positive, len(labels) - positive)
        if few == 0:
            return self._bound(task, logits, seen=positive > 0)
        slope, offset = platt(logits, labels, fixed_slope=few < _FEW)
        self.slope[task], self.offset[task] = slope, offset
        if few < _FEW:
            return "offset"
        if not _isotonic_wins(logits, labels):
            return "temperature"
        x_Q, y_Q = _isotonic_knots(logits * slope + offset, labels)
        self.knots_x[task], self.knots_y[task], self.bent[task] = x_Q, y_Q, True
        self.bends = True
        return "isotonic"


def _note_bends(module: Any, _: Any) -> None:
    module.bends = bool(module.bent.any())


def _isotonic_wins(logits: Tensor, labels: Tensor) -> bool:
    """Whether isotonic on top of temperature beats temperature alone on held-out folds."""
    gains = []
    for held_out in torch.arange(len(logits)).tensor_split(_FOLDS):
        kept = torch.ones(len(logits), dtype=torch.bool)
        kept[held_out] = False
        y, y_out = labels[kept], labels[held_out]
        if min(float(y.sum()), float(len(y) - y.sum())) < _FEW:
            return False
        slope, offset = platt(logits[kept], y, fixed_slope=False)
        fold = Calibration(1)
        fold.knots_x[0], fold.knots_y[0] = _isotonic_knots(logits[kept] * slope + offset, y)
        plain = logits[held_out] * slope + offset
        bent = fold._through_knots(plain[:, None])[:, 0]
        gains.append(_loss(plain, y_out) - _loss(bent, y_out))
    gain = torch.stack(gains)
    return bool(gain.mean() > gain.std() / _FOLDS**0.5)


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(logits, labels)


def _isotonic_knots(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Knots [Q] of a strictly increasing line through an isotonic fit, at equal counts."""
    from sklearn.isotonic import IsotonicRegression  # a second that only a fit should wait for

    x = logits.double().numpy()
    fitted = IsotonicRegression(y_min=1e-4, y_max=1 - 1e-4, out_of_bounds="clip")
    fitted.fit(x, labels.double().numpy())
    edges = np.quantile(x, np.linspace(0, 1, _NUM_KNOTS + 1))
    x_Q = np.maximum.accumulate((edges[:-1] + edges[1:]) / 2)
    x_Q = x_Q + _MIN_RISE * np.arange(_NUM_KNOTS)
    # The mean of the fit over a knot's share of rows: the fit is a staircase.
    parts = np.array_split(np.sort(x), _NUM_KNOTS)
    y_Q = np.array([logit(fitted.predict(part).mean()) for part in parts])
    y_Q = np.maximum.accumulate(y_Q) + _MIN_RISE * np.arange(_NUM_KNOTS)
    return torch.from_numpy(x_Q).float(), torch.from_numpy(y_Q).float()


@torch.enable_grad()
def platt(logits: Tensor, labels: Tensor, *, fixed_slope: bool = False) -> tuple[float, float]:
    """Slope, at least .05, and offset of logits [R] that fit labels [R] best (Platt 1999).

    Where the best slope is smaller, as of logits that tell nothing, the offset is that of .05.
    """
    slope, offset = _best_line(logits, labels, 1.0 if fixed_slope else None)
    return (slope, offset) if slope >= _LEAST_SLOPE else _best_line(logits, labels, _LEAST_SLOPE)


def _best_line(logits: Tensor, labels: Tensor, fixed: float | None) -> tuple[float, float]:
    """Slope and offset of the least loss; the slope is `fixed` where that is given."""
    slope = torch.tensor(1.0 if fixed is None else fixed, requires_grad=fixed is None)
    offset = torch.zeros((), requires_grad=True)
    parameters = [p for p in (slope, offset) if p.requires_grad]
    optimizer = torch.optim.LBFGS(parameters, max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = _loss(slope * logits + offset, labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    return slope.item(), offset.item()


def calibration_curve(predicted: Tensor, observed: Tensor, num_bins: int = 10) -> dict[str, Any]:
    """Curve and expected calibration error of one task.

    Bins hold equal counts, so the top bin shows the items that a greedy policy would choose,
    however rare they are. The error is the mean over events of |observed - predicted| of their bin
    (Naeini, Cooper, Hauskrecht: "Obtaining well calibrated probabilities using Bayesian binning",
    AAAI 2015, with equal counts instead of equal widths).

    Args:
        predicted: [n] probabilities.
        observed: [n] bool, whether it happened.
        num_bins: bins; fewer where there are fewer events.

    Returns:
        `{bins: [{predicted, observed, n}], ece}`, bins from the lowest prediction to the highest.

    Raises:
        SchemaError: no events, shapes that differ, or predictions outside [0, 1].
    """
    if predicted.dim() != 1 or predicted.shape != observed.shape or len(predicted) == 0:
        raise SchemaError(
            "predictions and observations",
            got=f"{tuple(predicted.shape)} and {tuple(observed.shape)}",
            expected="both [n], n >= 1",
        )
    if not bool(((predicted >= 0) & (predicted <= 1)).all()):
        raise SchemaError("predictions are not probabilities", expected="each in [0, 1]")
    order = predicted.argsort(stable=True)
    pairs = torch.stack([predicted, observed]).double()[:, order]
    parts = pairs.tensor_split(min(num_bins, len(order)), dim=1)
    bins = [_bin(part) for part in parts]
    error = sum(abs(b["observed"] - b["predicted"]) * b["n"] for b in bins) / len(order)
    return {"bins": bins, "ece": error}


def _bin(part: Tensor) -> dict[str, Any]:
    """Means by exact summation: a tensor's own sum may differ in its last bit from run to run."""
    num = part.shape[1]
    predicted, observed = (math.fsum(row) / num for row in part.tolist())
    return {"predicted": predicted, "observed": observed, "n": num}
