"""A ranker that existed already inside a traced graph, or beside it.

    a torch module    is traced with the rest: one graph
    ONNX, TorchScript  become a part of the graph, between two parts of ours:
                      rows (their inputs, by the user's own function) -> theirs -> ours
    LightGBM          stays a booster: `rows.onnx`, their trees, and `model.onnx` take turns

Symbols: `B` states, `K` candidates, `R` = B K flat rows, `H` their tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from recomind.adapters import ExternalConfig, ExternalKind, RowBatch, StateBatch
from recomind.adapters.config import OutputKind
from recomind.adapters.output import EDGE
from recomind.adapters.settings import inputs_function
from recomind.adapters.torch_module import load_torch, unpacking
from recomind.data import TableCatalogue
from recomind.errors import ConfigError
from recomind.ranker.external import ExternalRanker
from recomind.types import Catalogue, ItemFeatures, Ranker, SessionState


def external_part(ranker: Ranker) -> ExternalRanker | None:
    """The ranker that existed already, in `ranker` or as it; None where there is none."""
    found = getattr(ranker, "external", ranker)
    return found if isinstance(found, ExternalRanker) else None


class TracedCatalogue:
    """The latest content of items by plain look-ups; a trace cannot ask whether ids exist."""

    def __init__(self, catalogue: Catalogue) -> None:
        if not isinstance(catalogue, TableCatalogue):
            raise ConfigError(
                "the export of a ranker that existed already needs the catalogue in memory",
                got=type(catalogue).__name__,
                expected="a table of items",
            )
        self.num_items, self.vocab_sizes = catalogue.num_items, catalogue.vocab_sizes
        self.dense_names = catalogue.dense_names
        self.categorical_names = catalogue.categorical_names
        self._dense_NF, self._categorical_NC = catalogue.dense_DNF[-1], catalogue.categorical_NC

    def features(self, item_id: Tensor, snapshot: Tensor | None = None) -> ItemFeatures:
        """Content of `item_id` [...]."""
        del snapshot
        look_up = nn.functional.embedding
        dense, categorical = (look_up(item_id, t) for t in (self._dense_NF, self._categorical_NC))
        return ItemFeatures(dense=dense, categorical=categorical)


def flat_rows(state: SessionState, item_id: Tensor, catalogue: TracedCatalogue) -> RowBatch:
    """`R` rows of states [B] and candidates [B, K], state by state."""
    batch, num = item_id.shape

    def repeated(values: Tensor) -> Tensor:
        rest = values.shape[1:]
        return values[:, None].expand(batch, num, *rest).reshape(batch * num, *rest)

    tensors: dict[str, Any] = dict(state.to_tensordict().items())
    fields: dict[str, Any] = {name: repeated(values) for name, values in tensors.items()}
    items = item_id.reshape(batch * num)
    return RowBatch(
        state=SessionState(**fields, batch_size=[]),
        catalogue=catalogue,
        item_id=items,
        items=catalogue.features(items),
    )


def logits_of(values: Tensor, config: ExternalConfig) -> Tensor:
    """What `recomind.adapters.output` makes of valid outputs."""
    values = values.float()
    if config.output is OutputKind.logits:
        return values
    return values.clamp(EDGE, 1 - EDGE).logit()


class TracedModule:
    """A torch module asked without chunks and checks; implements `recomind.adapters.Scorer`."""

    cost = "traced"

    def __init__(self, config: ExternalConfig, module: nn.Module, catalogue: Catalogue) -> None:
        self.config, self.module = config, module
        self.catalogue, self.inputs = TracedCatalogue(catalogue), inputs_function(config)

    def encode(self, batch: StateBatch) -> Any:
        """The states, or the module's own encoding of them."""
        if self.inputs is not None:
            return batch.state
        asked = StateBatch(state=batch.state, catalogue=self.catalogue)
        return self.module.encode(asked)  # pyright: ignore[reportCallIssue]

    def score(
        self, encoding: Any, item_id: Tensor, catalogue: Catalogue, snapshot: Tensor | None
    ) -> Tensor:
        """Logits [B, K, H]."""
        del catalogue, snapshot
        if self.inputs is None:
            items = self.catalogue.features(item_id)
            output = self.module.score(encoding, item_id, items)  # pyright: ignore
        else:
            rows = flat_rows(encoding, item_id, self.catalogue)
            output = unpacking(self.module)(self.inputs(rows))
        return logits_of(output.reshape(*item_id.shape, len(self.config.tasks)), self.config)


class Given:
    """Outputs of a model that runs outside the trace; implements `recomind.adapters.Scorer`."""

    cost = "given"

    def __init__(self, config: ExternalConfig) -> None:
        self.config, self.values = config, torch.zeros(0)

    def encode(self, batch: StateBatch) -> None:
        """Nothing."""

    def score(
        self, encoding: Any, item_id: Tensor, catalogue: Catalogue, snapshot: Tensor | None
    ) -> Tensor:
        """Logits [B, K, H]."""
        return logits_of(self.values, self.config)


class TheirInputs(nn.Module):
    """The user's own function as a graph: states [B] and candidates [B, K] to rows.

    Args:
        external: the ranker.
        fields: names of the state's tensors, in the order of the arguments.
    """

    def __init__(self, external: ExternalRanker, fields: Sequence[str]) -> None:
        super().__init__()
        function = inputs_function(external.config)
        assert function is not None  # load_scorer refuses the kinds that come here without one
        self._inputs, self._fields = function, tuple(fields)
        self._catalogue = TracedCatalogue(external.catalogue)

    def named(self, *inputs: Tensor) -> dict[str, Tensor]:
        """What the model takes, by name: "input_0", "input_1" where the user gives no names."""
        *of_state, item_id = inputs
        fields: dict[str, Any] = dict(zip(self._fields, of_state, strict=True))
        state = SessionState(**fields, batch_size=[])
        made = self._inputs(flat_rows(state, item_id, self._catalogue))
        if not isinstance(made, Mapping):
            parts = made if isinstance(made, (tuple, list)) else [made]
            made = {f"input_{place}": part for place, part in enumerate(parts)}
        return {name: torch.as_tensor(part) for name, part in made.items()}

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The tensors of `named`, in its order."""
        return tuple(self.named(*inputs).values())


@contextmanager
def standing_in(external: ExternalRanker) -> Iterator[Given | TracedModule]:
    """Let something traceable answer in the external model's place."""
    config, path = external.config, external.model_path
    if config.kind is ExternalKind.torch:
        stand_in = TracedModule(config, load_torch(config, path), external.catalogue)
    else:
        stand_in = Given(config)
    with external.asking(stand_in):
        yield stand_in
