"""A model of the logger: how likely a shown item is its own choice, as far as the state tells.

Symbols: `R` rows of the log, `F` features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recomind.data import SessionDataset
from recomind.policy.content import one_hots
from recomind.simulation import SimulatorConfig
from recomind.simulation.response import Fit, SummaryNet, fit_network
from recomind.simulation.trees import tree_features
from recomind.streams import make_generator

_MAX_ROWS = 60_000
_HELD_OUT = 10  # every so many-th row stops the training
_NETWORK = SimulatorConfig(hidden=64, num_epochs=6, batch_size=512, learning_rate=5e-3)


def logger_logits(
    dataset: SessionDataset, rows: Tensor, chance: Tensor, chosen: Tensor, judged: Tensor, seed: int
) -> Tensor:
    """Logits [J] of "the logger chose it" against "chance showed it".

    A small network on everything that the state and the item show: it learns what the logger
    went by, wherever that is visible.

    Args:
        dataset: the logs.
        rows: [R] of training days.
        chance: [R] bool, from `exploring_rows`.
        chosen: [R] bool.
        judged: [J] rows that the logits are for.
        seed: of the network and of the sample of rows.
    """
    order = torch.randperm(len(rows), generator=make_generator(seed))
    order = order[(chance | chosen)[order]][:_MAX_ROWS]
    inputs_RF, labels_R = _inputs(dataset, rows[order]), chosen[order].float()
    held_out = torch.arange(len(order)) % _HELD_OUT == 0
    parts = [Fit(inputs_RF[k], labels_R[k], labels_R[k]) for k in (~held_out, held_out)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = SummaryNet(inputs_RF.shape[1], 1, _NETWORK.hidden)
    fit_network(net, parts[0], parts[1], _loss, _NETWORK, seed)
    with torch.no_grad():
        return net.eval()(_inputs(dataset, judged))[:, 0]


def _loss(outputs: Tensor, context: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], labels)


def _inputs(dataset: SessionDataset, rows: Tensor) -> Tensor:
    return torch.cat([_batch(dataset, part) for part in rows.split(8192)])


def _batch(dataset: SessionDataset, rows: Tensor) -> Tensor:
    """[R, F]: the counted features, and each categorical one as a one-hot of at most 64."""
    catalogue, item_id, snapshot = dataset.catalogue, dataset.item_id(rows), dataset.snapshot(rows)
    features = torch.from_numpy(tree_features(dataset.state(rows), item_id, catalogue, snapshot))
    categorical = catalogue.features(item_id, snapshot).categorical
    return torch.cat([features, one_hots(categorical, catalogue.vocab_sizes)], dim=1)
