"""The items nearest to a state: towers and index, and their artifact.

index.faiss             item vectors, searchable
towers.safetensors      weights of both towers
query_head.safetensors  weights of a query head, where one was distilled
manifest.json           kind "index"; extra holds the towers' shape, `num_items`, `nprobe`,
                        `num_queries`, `query_hidden` where there is a query head, and
                        `catalogue_version`, where the catalogue has versions

Symbols: `B` states, `Q` query vectors a state, `D` length of a vector.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import torch
from torch import Tensor

from recomind.artifacts import (
    Manifest,
    NoLargerThan,
    load_tensors,
    loads,
    read_manifest,
    save_tensors,
    write_artifact,
)
from recomind.errors import ArtifactError, ConfigError
from recomind.retrieval.build import OnItems, build_in
from recomind.retrieval.config import RetrievalConfig
from recomind.retrieval.index import (
    ItemIndex,
    build_index,
    load_index,
)
from recomind.retrieval.interests import interest_queries, round_robin
from recomind.retrieval.query_head import QueryHead, head_input
from recomind.retrieval.search import HasCells, ItemCells, SearchIndex
from recomind.retrieval.two_tower import TowerShape, TwoTower, history_vectors, item_vectors
from recomind.streams import make_generator
from recomind.types import Catalogue, SessionState

KIND, INDEX, TOWERS = "index", "index.faiss", "towers.safetensors"
QUERY_HEAD = "query_head.safetensors"


class Retrieval:
    """Finds the items nearest to a state.

    Args:
        model: both towers.
        index: over the vectors of all items of `catalogue`.
        catalogue: the items.
        num_queries: `Q`; those beyond the state's own query are for its interests.
        head: corrects the state's own query, if it was distilled from a policy.

    Raises:
        ArtifactError: the index has another number of items, vectors of another length, or an older
            version of the catalogue.
        SchemaError: the catalogue's features differ from those that the towers were trained on.
    """

    def __init__(
        self,
        model: TwoTower,
        index: SearchIndex,
        catalogue: Catalogue,
        *,
        num_queries: int = 1,
        head: QueryHead | None = None,
    ) -> None:
        model.shape.check_catalogue(catalogue)
        if index.version < catalogue_version(catalogue):
            raise ArtifactError(
                "the index is older than the catalogue",
                got=f"version {index.version}",
                expected=f"version {catalogue_version(catalogue)}",
                mend="update a live index, or rebuild the index",
            )
        if index.num_items != catalogue.num_items or index.dim != model.shape.dim:
            raise ArtifactError(
                "the index belongs to another catalogue or model",
                got=f"{index.num_items} items of length {index.dim}",
                expected=f"{catalogue.num_items} items of length {model.shape.dim}",
                mend="rebuild the index from this catalogue",
            )
        self.model, self.index, self.catalogue = model.eval(), index, catalogue
        self.num_items, self.num_queries = catalogue.num_items, num_queries
        self.head = None if head is None else head.eval()

    @torch.no_grad()
    def item_vectors(self, item_id: Tensor) -> Tensor:
        """Unit vectors [..., D] of `item_id` [...]."""
        return item_vectors(self.model, self.catalogue, item_id)

    @torch.no_grad()
    def query(self, state: SessionState) -> Tensor:
        """Unit query vectors [B, D] of `state` [B], on the CPU, where the towers are."""
        state = _on_cpu(state)
        return self._own(state, history_vectors(self.model, self.catalogue, state))

    @torch.no_grad()
    def queries(self, state: SessionState) -> Tensor:
        """All unit query vectors [B, Q, D] of `state` [B]: its own, then those of its interests.

        Missing interests repeat the state's own query; a history shorter than `Q` has fewer
        queries.
        """
        state = _on_cpu(state)
        history_BLD = history_vectors(self.model, self.catalogue, state)
        own_BD = self._own(state, history_BLD)
        if self.num_queries == 1:
            return own_BD[:, None]
        return interest_queries(self.model, state, history_BLD, own_BD, self.num_queries - 1)

    def _own(self, state: SessionState, history_BLD: Tensor) -> Tensor:
        if self.head is None:
            return self.model.users(state, history_BLD)
        return self.head(head_input(self.model, state, history_BLD))

    def nearest(self, state: SessionState, num: int) -> Tensor:
        """Ids [B, num] int64, best first; -1 where the index found fewer.

        Each of several queries finds `num`, and they take turns; no item occurs twice.
        """
        query_BQD = self.queries(state)
        found = self.index.search(query_BQD.flatten(0, 1), num)
        if query_BQD.shape[1] == 1:
            return found
        return round_robin(found.unflatten(0, query_BQD.shape[:2]), num)

    def cells(self) -> ItemCells:
        """The cells of the index, from which items are drawn without a query.

        Raises:
            ConfigError: the index has no cells.
        """
        if not isinstance(self.index, HasCells):
            raise ConfigError(
                "the index has no cells to draw from",
                got=type(self.index).__name__,
                mend="set candidates.stratified=false",
            )
        return self.index.cells()

    def save(self, folder: Path, manifest: Manifest) -> None:
        """Write the artifact; `manifest` is completed with what `load_retrieval` needs."""
        if not isinstance(self.index, ItemIndex):
            raise ArtifactError(
                "this index has its own folder",
                got=type(self.index).__name__,
                expected="an ItemIndex",
            )
        manifest.kind = KIND
        manifest.extra |= {
            "towers": dataclasses.asdict(self.model.shape),
            "num_items": self.num_items,
            "nprobe": self.index.nprobe,
            "catalogue_version": self.index.version,
            "num_queries": self.num_queries,
        }
        if self.head is not None:
            manifest.extra["query_hidden"] = self.head.hidden
        with write_artifact(folder, manifest) as staging:
            save_tensors(staging / TOWERS, self.model.state_dict())
            if self.head is not None:
                save_tensors(staging / QUERY_HEAD, self.head.state_dict())
            self.index.save(staging / INDEX)


def _on_cpu(state: SessionState) -> SessionState:
    return state if state.step.device.type == "cpu" else state.to("cpu")


def index_items(
    model: TwoTower,
    catalogue: Catalogue,
    config: RetrievalConfig,
    work: Path | None = None,
    on_items: OnItems | None = None,
) -> Retrieval:
    """Index the model's vectors of all items.

    With a folder `work` the build is in files, so that a killed build is continued, and the index
    stays memory-mapped from there. Without one it is in memory.
    """

    @torch.no_grad()
    def vectors_of(item_id: Tensor) -> Tensor:
        return item_vectors(model, catalogue, item_id)

    num_items = catalogue.num_items
    if work is None:
        index = build_index(vectors_of, num_items, config)
    else:
        source = _source(model, catalogue)
        index = build_in(work, vectors_of, num_items, config, source=source, on_items=on_items)
    index.version = catalogue_version(catalogue)
    return Retrieval(model, index, catalogue, num_queries=config.num_queries)


def catalogue_version(catalogue: Catalogue) -> int:
    """Version of a catalogue that changes; 0 for one that does not."""
    return int(getattr(catalogue, "version", 0))


def _source(model: TwoTower, catalogue: Catalogue) -> str:
    """A name of the item vectors: a hash of the weights and the first items' content."""
    digest = hashlib.sha256(f"{catalogue.num_items} {catalogue_version(catalogue)}".encode())
    sample = catalogue.features(torch.arange(min(catalogue.num_items, 1024)))
    for tensor in (*model.state_dict().values(), sample.dense, sample.categorical):
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


@loads("index", mend="run `recomind build-index` again")
def load_retrieval(folder: Path, catalogue: Catalogue) -> Retrieval:
    """Read an artifact of kind "index" for `catalogue`.

    Raises:
        ArtifactError: absent, damaged, or for another number of items.
        SchemaError: the catalogue's features differ from those that the towers were trained on.
    """
    folder = Path(folder)
    extra = read_manifest(folder, KIND).extra
    try:
        shape = TowerShape(**extra["towers"])
        with NoLargerThan(folder):
            model = TwoTower(shape, make_generator(0))
        model.load_state_dict(load_tensors(folder / TOWERS))
        head = _load_head(folder, shape, extra.get("query_hidden"))
        nprobe, version = int(extra["nprobe"]), int(extra.get("catalogue_version", 0))
        num_queries = int(extra.get("num_queries", 1))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ArtifactError("unreadable towers", got=f"{folder}: {error}") from error
    index = load_index(folder / INDEX, nprobe, version)
    return Retrieval(model, index, catalogue, num_queries=num_queries, head=head)


def _load_head(folder: Path, shape: TowerShape, hidden: int | None) -> QueryHead | None:
    if hidden is None:
        return None
    with NoLargerThan(folder):
        head = QueryHead(shape, int(hidden), make_generator(0))
    head.load_state_dict(load_tensors(folder / QUERY_HEAD))
    return head
