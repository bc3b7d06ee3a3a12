"""Everything that is loaded, made once, small, and how it is loaded."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faiss
import lightgbm as lgb
import numpy as np
import onnx
import polars as pl
import torch
from onnx import TensorProto, helper, numpy_helper

from recomind.adapters.onnx_file import load_onnx
from recomind.adapters.torch_module import load_torchscript
from recomind.artifacts import Manifest, read_manifest, write_artifact, write_json
from recomind.artifacts.boosters import read_booster
from recomind.config import RecomindConfig, plain
from recomind.data import (
    CatalogueStore,
    SessionDataset,
    SessionStream,
    StoreFormat,
    add_items,
    create_catalogue_store,
    write_sessions,
)
from recomind.evaluation.fidelity.store import FILE, read_fidelity
from recomind.export import PolicyScorer, export_policy, load_scorer
from recomind.export.golden import Golden, make_golden
from recomind.pipeline import Run
from recomind.pipeline.run_file import RUN_FILE
from recomind.policy import LoggedDensity, load_density
from recomind.ranker import load_rankers, new_ranker, save_rankers
from recomind.ranker.config import ExternalConfig, ExternalKind, OutputKind
from recomind.retrieval import (
    LiveIndex,
    RetrievalConfig,
    create_live_index,
    load_retrieval,
    train_retrieval,
)
from recomind.retrieval.index import ItemIndex, load_index
from recomind.simulation import fit_holdout, fit_simulator, load_holdout, load_simulator
from recomind.streams import make_generator
from recomind.training.checkpoint import load_checkpoint, save_checkpoint
from tests.export.tiny import NAMES, network, settings
from tests.simulation import tiny

LENGTH, DIM = tiny.LENGTH, 6
CHECKPOINT = "checkpoint/iteration-00000001"


@dataclass(kw_only=True, slots=True)
class Kind:
    """One thing that is loaded."""

    name: str
    folder: Path  # whose files are damaged
    load: Callable[[Path], Any]
    sealed: bool = True  # a manifest holds the hashes of its files
    guarded: bool = True  # changed content is refused where hashes were not recomputed
    files: list[str] = field(default_factory=list)  # that are damaged; all where empty

    def __post_init__(self) -> None:
        paths = (p for p in sorted(self.folder.rglob("*")) if p.is_file() and p.name[0] != ".")
        self.files = self.files or [p.relative_to(self.folder).as_posix() for p in paths]


def make(root: Path) -> None:
    """Write one of everything below `root`."""
    dataset, catalogue = tiny.tiny_dataset(), tiny.tiny_catalogue()
    frame = tiny.tiny_frame()
    write_sessions(
        root / "sessions", frame, catalogue, tasks=tiny.TASKS, manifest=Manifest(kind="sessions")
    )
    rankers = [new_ranker(dataset, tiny.RANKER, seed) for seed in (0, 1)]
    save_rankers(root / "ranker", rankers, catalogue, Manifest(kind="ranker"))
    fit_simulator(
        root / "simulator", rankers, dataset, tiny.SIMULATOR, Manifest(kind="simulator"), seed=0
    )
    fit_holdout(root / "holdout", dataset, tiny.SIMULATOR, Manifest(kind="holdout"), seed=0)
    train_retrieval(dataset, RetrievalConfig(dim=DIM, history_length=LENGTH), root / "index")
    LoggedDensity(5, 4).save(root / "density", Manifest(kind="density"))
    trained = network()
    export_policy(root / "scorer", trained, settings())
    golden = make_golden(
        PolicyScorer(trained, NAMES), make_generator(0), num_states=8, num_candidates=6
    )
    (root / "golden").mkdir()
    golden.save(root / "golden" / "golden.safetensors")
    state = {"weights": np.ones(50, dtype=np.float32), "deep": [{"a": 1, 2: (3, None)}], "n": 7}
    save_checkpoint(root / "checkpoint", 1, state, {"lr": 0.1}, seed=0)
    with write_artifact(root / "fidelity", Manifest(kind="fidelity")) as staging:
        write_json(staging / FILE, {"a": {"b": [1.5, None, "x"]}})
    _make_stores(root)
    _make_models(root)
    (root / "run" / "round_0" / "ranker").mkdir(parents=True)
    write_json(root / "run" / RUN_FILE, plain(_config(root / "run")))


def _vectors(num: int) -> torch.Tensor:
    return torch.randn(num, DIM, generator=make_generator(0))


def _make_stores(root: Path) -> None:
    form = StoreFormat(
        dense_names=["x"], categorical_names=["tag"], vocab_sizes=[9], embedding_dim=DIM
    )
    create_catalogue_store(root / "store", form)
    (root / "table").mkdir()
    items = pl.DataFrame({"item_id": range(300), "x": 0.5, "tag": 3})
    items = items.with_columns(pl.Series("embedding", _vectors(300).tolist()))
    items.write_parquet(root / "table" / "items.parquet")
    for begin in (0, 150):
        items.slice(begin, 150).write_parquet(root / "part.parquet")
        add_items(root / "store", root / "part.parquet")
    (root / "part.parquet").unlink()
    for name, factory in (("flat", "Flat"), ("graph", "IVF8_HNSW32,SQ8")):
        made: Any = faiss.index_factory(DIM, factory, faiss.METRIC_INNER_PRODUCT)
        made.train(_vectors(400).numpy())
        made.add(_vectors(400).numpy())
        (root / name).mkdir()
        ItemIndex(made).save(root / name / "index.faiss")
        if name == "graph":
            create_live_index(root / "live", ItemIndex(made))


class _Plain(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).sigmoid()


def _make_models(root: Path) -> None:
    for name in ("lightgbm", "onnx", "torchscript"):
        (root / name).mkdir()
    x = np.random.default_rng(0).standard_normal((300, 3))
    data = lgb.Dataset(x, (x[:, 0] > 0).astype(int))
    quiet = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 5}
    lgb.train(quiet, data, 5).save_model(root / "lightgbm" / "model.txt")
    _write_onnx(root / "onnx" / "model.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(_Plain()).save(str(root / "torchscript" / "model.pt"))


def _write_onnx(path: Path) -> None:
    weights = [numpy_helper.from_array(np.ones((3, 1), dtype=np.float32), "w")]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["p"]),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])
    answer = helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph(nodes, "ranker", [given], [answer], weights)
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


def _config(folder: Path) -> RecomindConfig:
    return RecomindConfig(output=str(folder), data={"source": "kuairand", "root": "raw"})


def _external(kind: ExternalKind, path: Path) -> ExternalConfig:
    return ExternalConfig(
        kind=kind, path=str(path), inputs="a.b", tasks=["t"], output=OutputKind.probabilities
    )


def _onnx(folder: Path) -> Any:
    path = folder / "model.onnx"
    run = load_onnx(_external(ExternalKind.onnx, path), path)
    return run(np.zeros((2, 3), dtype=np.float32))


def _torchscript(folder: Path) -> Any:
    path = folder / "model.pt"
    return load_torchscript(_external(ExternalKind.torchscript, path), path)


def _store(folder: Path) -> Any:
    store = CatalogueStore(folder)
    store.verify()
    return store.features(torch.arange(store.num_items)), store.embeddings(torch.tensor([0]))


def _table(folder: Path) -> Any:
    for path in folder.glob("made*"):
        shutil.rmtree(path)
    form = StoreFormat(
        dense_names=["x"], categorical_names=["tag"], vocab_sizes=[9], embedding_dim=DIM
    )
    create_catalogue_store(folder / "made", form)
    return add_items(folder / "made", folder / "items.parquet")


def _stream(folder: Path) -> Any:
    return [len(block) for block in SessionStream.open([folder], LENGTH, 700).blocks()]


def _index_file(folder: Path) -> Any:
    return load_index(folder / "index.faiss").search(_vectors(3), 5)


def kinds(root: Path) -> list[Kind]:
    """All of what `make` wrote below `root`."""
    catalogue = tiny.tiny_catalogue

    def index(folder: Path) -> Any:
        return load_retrieval(folder, catalogue()).index.search(_vectors(2), 5)

    def simulator(folder: Path) -> Any:
        return load_simulator(folder, root / "ranker", tiny.WEIGHTS)

    found = [
        Kind(name="manifest", folder=root / "fidelity", load=read_manifest),
        Kind(name="sessions", folder=root / "sessions", load=lambda f: SessionDataset.load([f], 4)),
        Kind(name="stream", folder=root / "sessions", load=_stream, files=["sessions.parquet"]),
        Kind(name="ranker", folder=root / "ranker", load=load_rankers),
        Kind(name="simulator", folder=root / "simulator", load=simulator),
        Kind(name="holdout", folder=root / "holdout", load=lambda f: load_holdout(f, tiny.WEIGHTS)),
        Kind(name="index", folder=root / "index", load=index),
        Kind(name="density", folder=root / "density", load=load_density),
        Kind(name="scorer", folder=root / "scorer", load=load_scorer),
        Kind(name="checkpoint", folder=root / CHECKPOINT, load=load_checkpoint),
        Kind(name="fidelity", folder=root / "fidelity", load=read_fidelity),
    ]
    bare: list[tuple[str, Callable[[Path], Any]]] = [
        ("golden", lambda f: Golden.load(f / "golden.safetensors")),
        ("run", lambda f: Run(_config(f)).claim()),
        ("flat", _index_file),
        ("graph", _index_file),
        ("lightgbm", lambda f: read_booster(f / "model.txt").predict(np.zeros((2, 3)))),
        ("onnx", _onnx),
        ("torchscript", _torchscript),
        ("table", _table),
    ]
    found += [
        Kind(name=name, folder=root / name, load=load, sealed=False, guarded=False)
        for name, load in bare
    ]
    found.append(Kind(name="store", folder=root / "store", load=_store, sealed=False))
    found.append(
        Kind(
            name="live",
            folder=root / "live",
            load=lambda f: LiveIndex(f).search(_vectors(2), 5),
            sealed=False,
        )
    )
    return found
