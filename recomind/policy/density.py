"""How densely the logs cover an item in a state: one dot product for each candidate.

Symbols: `B` states, `K` candidates, `N` items, `M` width of a state, `D` of an item, `Q` rank.

    log g(a | s) = query(s) . key(a) + bias(a) + constant(s)

The state is the frozen ranker's encoding beside the user's features. The item is its content, since
a ranker's vectors need not hold what a logging policy goes by. The model is frozen while the policy
learns, so the keys of all items form a table, where the ranker has a table of item vectors.
`recomind.policy.density_fitting` defines g. Ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recomind.artifacts import (
    Manifest,
    NoLargerThan,
    load_tensors,
    loads,
    read_manifest,
    save_tensors,
    write_artifact,
)
from recomind.errors import ArtifactError
from recomind.fitting import Standardising
from recomind.policy.content import content, content_width
from recomind.ranker import SessionRanker, Stamp, StateEncoding
from recomind.types import Catalogue, SessionState

KIND, WEIGHTS = "density", "density.safetensors"
_RANK, _HIDDEN = 16, 64
_CHUNK = 65_536  # items whose keys are computed at a time


class LoggedDensity(Standardising):
    """The model of log g; its weights are random until they are fitted or loaded.

    Args:
        state_width: `M`.
        item_width: `D`.
    """

    def __init__(self, state_width: int, item_width: int) -> None:
        super().__init__(state_width + item_width)
        self.state_width, self.item_width = state_width, item_width
        self.query = _tower(state_width)
        self.key = _tower(item_width)
        self._stamp = Stamp()
        self._table: Tensor | None = None  # keys of all items

    @classmethod
    def of(cls, ranker: SessionRanker) -> LoggedDensity:
        """A model that is not yet fitted, on the encodings and the catalogue of `ranker`."""
        state_width = ranker.config.hidden + ranker.num_user_features
        return cls(state_width, content_width(ranker.catalogue))

    def forward(self, inputs_RI: Tensor) -> Tensor:
        """Log g [R, 1] of concatenated states and items [R, M + D], with the state's constant."""
        state_RM, item_RD = inputs_RI.split([self.state_width, self.item_width], dim=1)
        query_RQ, key_RQ = self._query(state_RM), self._key(item_RD)
        dot_R1 = (query_RQ[:, :_RANK] * key_RQ[:, :_RANK]).sum(1, keepdim=True)
        return dot_R1 + query_RQ[:, _RANK:] + key_RQ[:, _RANK:]

    @torch.no_grad()
    def log_density(self, state_BM: Tensor, ranker: SessionRanker, item_id: Tensor) -> Tensor:
        """Log g [B, K] of `item_id` [B, K], without the state's constant.

        Args:
            state_BM: from `seen_of`.
            ranker: the one that the model was fitted on.
            item_id: the candidates.
        """
        key_BKQ = self._keys(ranker, item_id)
        query_BQ = self._query(state_BM)
        query_BQ = torch.cat([query_BQ[:, :_RANK], torch.ones_like(query_BQ[:, :1])], dim=1)
        return torch.bmm(key_BKQ, query_BQ[:, :, None])[:, :, 0]

    def _keys(self, ranker: SessionRanker, item_id: Tensor) -> Tensor:
        """Keys [B, K, Q + 1]; from a table of all items where the ranker has one."""
        catalogue = ranker.catalogue
        if ranker.table is None:
            return self._key(content(catalogue, item_id))
        # An exporter traces its own tensors, which no stamp knows.
        if self._table is None or not torch.compiler.is_compiling():
            self._look(catalogue)
        assert self._table is not None
        return nn.functional.embedding(item_id, self._table)

    def _look(self, catalogue: Catalogue) -> None:
        """Recompute the table if weights or catalogue have changed."""
        sources = (self.key, self.mean, self.scale, catalogue)
        if self._table is None or not self._stamp.is_of(sources):
            chunks = torch.arange(catalogue.num_items).split(_CHUNK)
            self._table = torch.cat([self._key(content(catalogue, ids)) for ids in chunks])
            self._stamp = Stamp(sources)

    def _query(self, state_BM: Tensor) -> Tensor:
        width = self.state_width
        return self.query((state_BM - self.mean[:width]) / self.scale[:width])

    def _key(self, item_D: Tensor) -> Tensor:
        width = self.state_width
        return self.key((item_D - self.mean[width:]) / self.scale[width:])

    def save(self, folder: Path, manifest: Manifest) -> None:
        """Write an artifact of kind "density"."""
        manifest.kind = KIND
        manifest.extra = {"state_width": self.state_width, "item_width": self.item_width}
        with write_artifact(folder, manifest) as staging:
            save_tensors(staging / WEIGHTS, self.state_dict())


def seen_of(state: SessionState, encoding: StateEncoding) -> Tensor:
    """The model's input [B, M] for `state` [B], given the ranker's encoding."""
    return torch.cat([encoding.hidden_BM, state.user_features], dim=1)


def _tower(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, _RANK + 1))


@loads("density of the logs")
def load_density(folder: Path) -> LoggedDensity:
    """Read what `LoggedDensity.save` wrote.

    Raises:
        ArtifactError: absent or damaged, or the weights have another shape.
    """
    extra: Mapping[str, Any] = read_manifest(folder, KIND).extra
    try:
        with NoLargerThan(folder):
            density = LoggedDensity(int(extra["state_width"]), int(extra["item_width"]))
        density.load_state_dict(load_tensors(Path(folder) / WEIGHTS))
    except (KeyError, RuntimeError) as error:
        raise ArtifactError("unreadable density of the logs", got=f"{folder}: {error}") from error
    return density.eval().requires_grad_(False)
