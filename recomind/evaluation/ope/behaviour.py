"""A model of who logged, where the log does not say how likely its choices were.

Symbols: `R` decisions, `K` candidates of a pool, `F` features.

    p(k | s, pool) = exp f(s, k) / sum over the pool of exp f(s, j)

f is a small network on what state and item show. An estimate with such propensities is as good as
the model: it is marked as estimated, the calibration on later days stands beside it, and it never
stops a release. Where the logging policy went by something that the log does not hold, the estimate
is biased, and nothing in the log tells by how much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recomind.data import SessionDataset
from recomind.errors import SchemaError
from recomind.evaluation.ope.pools import CHUNK, pools_around
from recomind.fitting import Fit, Standardising, fit_network
from recomind.ranker import calibration_curve
from recomind.simulation.trees import tree_features
from recomind.streams import draw_rows, make_generator
from recomind.types import Candidates, CandidateSource

_MAX_DECISIONS = 8_000  # that the fit uses
_FEW = 100  # decisions below which nothing is fitted
_LEAST = 1e-6  # smallest propensity: a weight beyond a million is no estimate of anything


@dataclass(kw_only=True, slots=True)
class _Settings:
    num_epochs: int = 12
    batch_size: int = 128
    learning_rate: float = 5e-3


class ChoiceNet(Standardising):
    """Logits [R, K] of candidates, each from its own features."""

    def __init__(self, num_features: int, hidden: int = 32) -> None:
        super().__init__(num_features)
        self.net = nn.Sequential(
            nn.Linear(num_features, hidden), nn.GELU(), nn.Linear(hidden, 1, bias=False)
        )

    def standardise(self, inputs_RM: Tensor) -> None:
        """Mean and scale over all candidates of all decisions."""
        super().standardise(inputs_RM.flatten(0, 1))

    def forward(self, inputs_RKF: Tensor) -> Tensor:
        """Logits, up to a constant for each decision."""
        return self.net((inputs_RKF - self.mean) / self.scale)[..., 0]


@dataclass(kw_only=True, slots=True)
class Behaviour:
    """A fitted model, and how well it foretells choices of later days."""

    net: ChoiceNet
    calibration: dict[str, Any]  # `{bins, ece}`, `log_loss` in nats and `uniform_log_loss`

    @torch.no_grad()
    def propensities(
        self, dataset: SessionDataset, rows: Tensor, pools: list[Candidates]
    ) -> Tensor:
        """[R] float64 of what was shown, slot 0 of each pool; at least a millionth."""
        parts, begin = [], 0
        for pool in pools:
            chunk = rows[begin : begin + len(pool.item_id)]
            parts.append(_probabilities(self.net, dataset, chunk, pool)[:, 0])
            begin += len(chunk)
        return torch.cat(parts).double().clamp(min=_LEAST)


def fit_behaviour(dataset: SessionDataset, pool: CandidateSource, seed: int) -> Behaviour:
    """Fit on training days; the calibration is that of the days after.

    Args:
        dataset: the log.
        pool: what may have been shown: pools are drawn again around what was.
        seed: of the pools and the network.

    Raises:
        SchemaError: fewer than 100 decisions to fit to, or to judge by.
    """
    generator = make_generator(seed)
    parts = [
        draw_rows(dataset.rows(*splits), num, generator)
        for splits, num in ((("train",), _MAX_DECISIONS), (("calibration",), _MAX_DECISIONS // 4))
    ]
    if min(map(len, parts)) < _FEW:
        raise SchemaError(
            "too few logged decisions for a model of the logging policy",
            got=[len(part) for part in parts],
            expected=f">= {_FEW} on training days and on the days after",
        )
    pools = [pools_around(dataset, part, pool, generator) for part in parts]
    fits = [_fit(dataset, *each) for each in zip(parts, pools, strict=True)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ChoiceNet(fits[0].inputs.shape[2])
    fit_network(net, fits[0], fits[1], _loss, _Settings(), seed)
    return Behaviour(net=net.eval(), calibration=_calibration(net, fits[1]))


def _fit(dataset: SessionDataset, rows: Tensor, pools: list[Candidates]) -> Fit:
    chunks = zip(rows.split(CHUNK), pools, strict=True)
    inputs = torch.cat([_features(dataset, chunk, pool) for chunk, pool in chunks])
    mask_RK = torch.cat([pool.mask for pool in pools])
    return Fit(inputs, mask_RK, torch.zeros(len(rows), dtype=torch.int64))


def _features(dataset: SessionDataset, rows: Tensor, pool: Candidates) -> Tensor:
    """[R, K, F]."""
    num = pool.item_id.shape[1]
    each, item_id = rows.repeat_interleave(num), pool.item_id.flatten()
    snapshot = dataset.snapshot(each)
    features = tree_features(dataset.state(each), item_id, dataset.catalogue, snapshot)
    return torch.from_numpy(features).view(len(rows), num, -1)


def _probabilities(
    net: ChoiceNet, dataset: SessionDataset, rows: Tensor, pool: Candidates
) -> Tensor:
    logits_RK = net(_features(dataset, rows, pool))
    return logits_RK.masked_fill(~pool.mask, -torch.inf).softmax(1)


def _loss(logits_RK: Tensor, mask_RK: Tensor, shown_R: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits_RK.masked_fill(~mask_RK, -torch.inf), shown_R)


@torch.no_grad()
def _calibration(net: ChoiceNet, later: Fit) -> dict[str, Any]:
    logits_RK = net(later.inputs).masked_fill(~later.context, -torch.inf)
    prob_RK = logits_RK.softmax(1)
    shown_RK = torch.zeros_like(later.context)
    shown_RK[:, 0] = True
    curve = calibration_curve(prob_RK[later.context], shown_RK[later.context])
    return curve | {
        "log_loss": float(-prob_RK[:, 0].clamp(min=_LEAST).log().mean()),
        "uniform_log_loss": float(later.context.sum(1).double().log().mean()),
    }
