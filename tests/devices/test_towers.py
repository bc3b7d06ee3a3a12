"""The towers on another device: `meta` tensors have one, and no numbers."""

from __future__ import annotations

import torch

from recomind.retrieval.config import RetrievalConfig
from recomind.retrieval.targets import make_targets
from recomind.retrieval.training import _batch_loss, draw_batch
from recomind.retrieval.two_tower import TwoTower, tower_shape
from recomind.streams import make_generator
from tests.simulation.tiny import tiny_dataset


def test_batches_are_drawn_on_the_processor_and_go_where_the_towers_are():
    dataset, config, generator = tiny_dataset(), RetrievalConfig(dim=8), make_generator(0)
    targets = make_targets(dataset, config)
    batch = draw_batch(dataset, targets, torch.arange(16), config.num_sampled, generator)
    shape = tower_shape(dataset.catalogue, dataset.num_user_features, config)
    model = TwoTower(shape, generator).to("meta")
    loss = _batch_loss(model, dataset, batch, config.temperature)
    loss.backward()
    grads = [parameter.grad for parameter in model.parameters()]
    assert {str(grad.device) for grad in grads if grad is not None} == {"meta"}
    assert all(grad is not None for grad in grads)
