"""Rankers that exist already, over the small world of `tests.simulation.tiny`, one of each kind.

Each knows `watch_10s` alone: boosted trees, which have no gradient, and a network as a torch
module, as a TorchScript file and as an ONNX file.
"""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import lightgbm as lgb
import numpy as np
import onnx
import safetensors.torch
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from recomind.adapters import RowBatch
from recomind.artifacts import Manifest
from recomind.ranker import CompletedRanker, ExternalRanker, load_external, save_rankers
from recomind.ranker.config import ExternalConfig, ExternalKind, OutputKind
from recomind.types import Ranker
from tests.simulation.tiny import tiny_catalogue, tiny_dataset, tiny_ranker

HERE, TASK = "tests.parity.existing", "watch_10s"
FILES = {
    ExternalKind.lightgbm: f"{TASK}.txt",
    ExternalKind.torch: "net.safetensors",
    ExternalKind.torchscript: "net.pt",
    ExternalKind.onnx: "net.onnx",
}


def inputs(batch: RowBatch) -> Tensor:
    """[R, F] what the user writes: his own features out of the project's batches."""
    steps = batch.state.step[:, None].float()
    return torch.cat([batch.state.user_features, batch.items.dense, steps], dim=1)


class Net(nn.Module):
    def __init__(self, num_inputs: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(num_inputs, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, rows: Tensor) -> Tensor:
        return self.net(rows)


def make_net() -> nn.Module:
    return Net(num_inputs())


@cache
def _rows() -> tuple[Tensor, Tensor]:
    """Inputs [R, F] and labels [R] of the training impressions."""
    dataset = tiny_dataset()
    rows = dataset.rows("train")
    snapshot, item_id = dataset.snapshot(rows), dataset.item_id(rows)
    batch = RowBatch(
        state=dataset.state(rows),
        catalogue=dataset.catalogue,
        snapshot=snapshot,
        item_id=item_id,
        items=dataset.catalogue.features(item_id, snapshot),
    )
    return inputs(batch), dataset.labels(rows)[:, list(dataset.tasks).index(TASK)]


def num_inputs() -> int:
    return _rows()[0].shape[1]


def write_model(kind: ExternalKind, folder: Path) -> ExternalConfig:
    """Train a model of `kind` and write it as its owner would have."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILES[kind]
    write = {
        ExternalKind.lightgbm: _write_booster,
        ExternalKind.torch: lambda p: safetensors.torch.save_model(trained_net(), str(p)),
        ExternalKind.torchscript: _write_script,
        ExternalKind.onnx: _write_onnx,
    }
    write[kind](path)
    trees, torch_module = kind is ExternalKind.lightgbm, kind is ExternalKind.torch
    return ExternalConfig(
        kind=kind,
        path=str(folder if trees else path),
        factory=f"{HERE}.make_net" if torch_module else "",
        inputs=f"{HERE}.inputs",
        tasks=[TASK],
        output=OutputKind.probabilities if trees else OutputKind.logits,
    )


def _write_booster(path: Path) -> None:
    rows, labels = (part.numpy().astype(np.float64) for part in _rows())
    settings = {"objective": "binary", "num_leaves": 7, "verbosity": -1, "num_threads": 1}
    lgb.train(settings, lgb.Dataset(rows, labels), num_boost_round=15).save_model(path)


def _write_script(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(trained_net()), str(path))


def _write_onnx(path: Path) -> None:
    state = trained_net().state_dict()
    tensors = [numpy_helper.from_array(t.numpy(), n) for n, t in state.items()]
    nodes = [
        helper.make_node("Gemm", ["x", "net.0.weight", "net.0.bias"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "net.2.weight", "net.2.bias"], ["y"], transB=1),
    ]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width])
        for name, width in (("x", num_inputs()), ("y", 1))
    )
    graph = helper.make_graph(nodes, "net", [x], [y], tensors)
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)


@cache
def trained_net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = make_net()
    rows, labels = _rows()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(40):
        loss = nn.functional.binary_cross_entropy_with_logits(net(rows)[:, 0], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


def existing(kind: ExternalKind, folder: Path) -> ExternalRanker:
    """The model as a ranker, with a calibration that is not the identity."""
    ranker = load_external(write_model(kind, folder), tiny_catalogue())
    ranker.calibration.slope.fill_(1.3)
    ranker.calibration.offset.fill_(-0.2)
    return ranker


def ensemble(external: ExternalRanker) -> list[Ranker]:
    """The external model completed by ours, and two members of ours; not to be changed."""
    own = [tiny_ranker(0), tiny_ranker(1)]
    return [CompletedRanker(external, own[0]), *own]


def write_ensemble(kind: ExternalKind, folder: Path) -> list[Ranker]:
    """Write the ensemble to `folder`; the model that it was made from is gone afterwards."""
    source = folder.parent / f"{folder.name}_source"
    rankers = ensemble(existing(kind, source))
    save_rankers(folder, rankers, tiny_catalogue(), Manifest(kind=""))
    for path in source.iterdir():
        path.unlink()
    source.rmdir()
    return rankers
