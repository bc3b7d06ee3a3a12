"""Dwell time given the item and the feedback.

Symbols: `B` sessions, `F` dense item features, `C` feedback combinations, `Q` quantiles.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from recomind.data import SessionDataset
from recomind.fitting import Fit, fit_network
from recomind.simulation.config import SimulatorConfig
from recomind.simulation.response import SummaryNet

LEAST_STEPS = 400  # the optimiser's, where few events fit a location


class DwellModel(nn.Module):
    """Dwell seconds given the item and the feedback.

        log dwell = location(item content, feedback) + residual

    The location is a small network on the item's dense content, which includes the duration; the
    residual is an empirical distribution for each combination of the first `G` tasks. If the
    location ignored the item, a policy could show long videos at no cost in time. Ours.

    Args:
        num_dense: dense item features.
        num_tasks: `G`.
        num_quantiles: resolution of the residual's distribution.
        hidden: width of the location network.
    """

    quantiles_CQ: Tensor  # residuals of log(1 + seconds), ascending

    def __init__(self, num_dense: int, num_tasks: int, num_quantiles: int, hidden: int) -> None:
        super().__init__()
        self.num_tasks = num_tasks
        self.location = SummaryNet(num_dense, 2**num_tasks, hidden)
        self.register_buffer("quantiles_CQ", torch.zeros(2**num_tasks, num_quantiles))

    def sample(self, content_BF: Tensor, feedback_BH: Tensor, uniform_B: Tensor) -> Tensor:
        """Seconds [B], given the items' dense content, the feedback and uniforms."""
        num, code_B = self.quantiles_CQ.shape[1], _code(feedback_BH, self.num_tasks)
        position = (uniform_B * num - 0.5).clamp(0, num - 1)
        low = position.floor().long()
        high = (low + 1).clamp(max=num - 1)
        row = self.quantiles_CQ[code_B]
        below, above = row.gather(1, low[:, None])[:, 0], row.gather(1, high[:, None])[:, 0]
        residual = below + (above - below) * (position - low)
        return torch.expm1((self._at(content_BF, code_B) + residual).clamp(0.0, 9.0))

    def _at(self, content_BF: Tensor, code_B: Tensor) -> Tensor:
        return self.location(content_BF).gather(1, code_B[:, None])[:, 0]


def fit_dwell(
    dataset: SessionDataset,
    rows: Tensor,
    later: Tensor,
    config: SimulatorConfig,
    seed: int,
    least_steps: int = 0,
) -> DwellModel:
    """Least squares for the location of log(1 + seconds), then the residual's quantiles.

    Args:
        dataset: the log.
        rows: [R] events that it is fitted to.
        later: events that decide which epoch is best.
        config: epochs, batch size, learning rate and sizes.
        seed: of the network and of the order of the rows.
        least_steps: batches are made smaller until the optimiser takes so many steps.
    """
    config = dataclasses.replace(config, batch_size=_batch_size(config, len(rows), least_steps))
    num_tasks = min(len(dataset.tasks), 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DwellModel(
            len(dataset.catalogue.dense_names), num_tasks, config.dwell_quantiles, config.hidden
        )

    def loss(outputs: Tensor, code: Tensor, log_dwell: Tensor) -> Tensor:
        return nn.functional.mse_loss(outputs.gather(1, code[:, None])[:, 0], log_dwell)

    parts = [_dwell_rows(dataset, chosen, num_tasks) for chosen in (rows, later)]
    fit_network(model.location, parts[0], parts[1], loss, config, seed)
    model.eval()
    with torch.no_grad():
        fitted = parts[0]
        residual = fitted.labels - model._at(fitted.inputs, fitted.context)
    levels = (torch.arange(config.dwell_quantiles) + 0.5) / config.dwell_quantiles
    for code in range(2**num_tasks):
        chosen = residual[fitted.context == code]
        chosen = (chosen if len(chosen) >= 20 else residual)[:1_000_000]
        model.quantiles_CQ[code] = torch.quantile(chosen, levels)
    return model


def _batch_size(config: SimulatorConfig, num_rows: int, least_steps: int) -> int:
    """Rows of a batch, with which `num_rows` give at least so many steps, or one row a step."""
    if not least_steps:
        return config.batch_size
    return max(1, min(config.batch_size, num_rows * config.num_epochs // least_steps))


def _dwell_rows(dataset: SessionDataset, rows: Tensor, num_tasks: int) -> Fit:
    content = dataset.catalogue.features(dataset.item_id(rows), dataset.snapshot(rows)).dense
    code = _code(dataset.labels(rows), num_tasks)
    return Fit(content, code, torch.log1p(dataset.dwell_s(rows)))


def _code(feedback: Tensor, num_tasks: int) -> Tensor:
    powers = 2 ** torch.arange(num_tasks)
    return (feedback[:, :num_tasks].long() * powers).sum(1)
