"""Two towers over content: a user is near the items that he or she would respond to.

Symbols: `B` states, `L` latest events, `D` length of a vector, `F` dense and `C`
categorical features of an item, `U` user features, `H` feedback tasks.

    item tower   [F] ++ C embeddings                     -> hidden -> [D], unit length
    user tower   [U] ++ mean [D] ++ recent mean [D]      -> hidden -> [D], unit length

The two means are over the item vectors of the history's positive events (first task), the second
with weights that halve every `half_life` events. Items are known by content alone, so a new item
has a vector immediately. Model and loss follow Yi et al., "Sampling-bias-corrected neural modeling
for large corpus item recommendations" (RecSys 2019); the user tower is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from recomind.devices import device_of, on_device, to_device
from recomind.errors import SchemaError
from recomind.retrieval.config import RetrievalConfig
from recomind.types import Catalogue, ItemFeatures, SessionState


@dataclass(kw_only=True)
class TowerShape:
    """Everything that determines the parameters' shapes; kept in the artifact's manifest."""

    dense_names: tuple[str, ...]
    categorical_names: tuple[str, ...]
    vocab_sizes: tuple[int, ...]
    num_user_features: int
    dim: int
    hidden: int
    categorical_dim: int
    history_length: int
    half_life: float

    def __post_init__(self) -> None:
        self.dense_names = tuple(self.dense_names)  # JSON has lists only
        self.categorical_names = tuple(self.categorical_names)
        self.vocab_sizes = tuple(self.vocab_sizes)

    def check_catalogue(self, catalogue: Catalogue) -> None:
        """Raise a SchemaError unless the items have the features of the towers."""
        for name in ("dense_names", "categorical_names", "vocab_sizes"):
            got, expected = tuple(getattr(catalogue, name)), getattr(self, name)
            if got != expected:
                raise SchemaError(f"the catalogue has other {name}", got=got, expected=expected)


def tower_shape(
    catalogue: Catalogue, num_user_features: int, config: RetrievalConfig
) -> TowerShape:
    """The shape for a catalogue's features and a config."""
    return TowerShape(
        dense_names=tuple(catalogue.dense_names),
        categorical_names=tuple(catalogue.categorical_names),
        vocab_sizes=tuple(catalogue.vocab_sizes),
        num_user_features=num_user_features,
        dim=config.dim,
        hidden=config.hidden,
        categorical_dim=config.categorical_dim,
        history_length=config.history_length,
        half_life=config.half_life,
    )


def _mlp(num_in: int, hidden: int, num_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(num_in, hidden), nn.ReLU(), nn.Linear(hidden, num_out))


class TwoTower(nn.Module):
    """Both towers; weights are drawn from `generator`."""

    def __init__(self, shape: TowerShape, generator: torch.Generator) -> None:
        super().__init__()
        self.shape = shape
        tables = (nn.Embedding(size, shape.categorical_dim) for size in shape.vocab_sizes)
        self.embeddings = nn.ModuleList(tables)
        num_item = len(shape.dense_names) + len(shape.vocab_sizes) * shape.categorical_dim
        num_user = shape.num_user_features + 2 * shape.dim
        self.item_tower = _mlp(num_item, shape.hidden, shape.dim)
        self.user_tower = _mlp(num_user, shape.hidden, shape.dim)
        for module in self.modules():
            _initialise(module, generator)

    def items(self, features: ItemFeatures) -> Tensor:
        """Unit vectors [..., D] of items."""
        columns = [table(features.categorical[..., c]) for c, table in enumerate(self.embeddings)]
        inputs = torch.cat([features.dense, *columns], dim=-1)
        return functional.normalize(self.item_tower(inputs), dim=-1)

    def users(self, state: SessionState, history_BLD: Tensor) -> Tensor:
        """Unit vectors [B, D] of states, given the vectors of their latest `L` events."""
        length = history_BLD.shape[1]
        return self.users_liking(state.user_features, history_BLD, liked_events(state, length))

    def users_liking(
        self, user_features_BU: Tensor, history_BLD: Tensor, liked_BL: Tensor
    ) -> Tensor:
        """Unit vectors [B, D] of users who liked the events `liked_BL` [B, L] bool."""
        means = self.event_means(history_BLD, liked_BL)
        inputs = torch.cat([user_features_BU, *means], dim=-1)
        return functional.normalize(self.user_tower(inputs), dim=-1)

    def event_means(self, history_BLD: Tensor, chosen_BL: Tensor) -> list[Tensor]:
        """Mean [B, D] of the chosen events' vectors, and the mean that favours the latest."""
        weights = (chosen_BL.float(), self.recency(chosen_BL))
        return [_weighted_mean(history_BLD, weight_BL) for weight_BL in weights]

    def recency(self, chosen_BL: Tensor) -> Tensor:
        """Weights [B, L] of the chosen events, halved every `half_life` events of any kind."""
        age_L = torch.arange(chosen_BL.shape[-1] - 1, -1, -1, device=chosen_BL.device)
        return chosen_BL.float() * 0.5 ** (age_L / self.shape.half_life)


def liked_events(state: SessionState, length: int) -> Tensor:
    """[B, length] bool: which of the latest events have a positive first task."""
    begin = state.history_mask.shape[1] - length
    return (state.history_mask & state.history_feedback[..., 0])[:, begin:]


def _weighted_mean(vectors_BLD: Tensor, weight_BL: Tensor) -> Tensor:
    total_BD = torch.einsum("bl,bld->bd", weight_BL, vectors_BLD)
    return total_BD / weight_BL.sum(1, keepdim=True).clamp(min=1e-6)


def _initialise(module: nn.Module, generator: torch.Generator) -> None:
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.1, generator=generator)
    elif isinstance(module, nn.Linear):
        bound = 1.0 / math.sqrt(max(1, module.in_features))
        nn.init.uniform_(module.weight, -bound, bound, generator=generator)
        nn.init.uniform_(module.bias, -bound, bound, generator=generator)


def item_vectors(
    model: TwoTower, catalogue: Catalogue, item_id: Tensor, snapshot: Tensor | None = None
) -> Tensor:
    """Unit vectors [..., D] of `item_id` [...] at `snapshot` [...] (the latest where None).

    The histories of a batch repeat items, so each (item, snapshot) passes the tower once. Ids are
    on the processor, as the catalogue is, and the vectors where the model is.
    """
    device = device_of(model)
    key = (
        item_id if snapshot is None else snapshot.expand_as(item_id) * catalogue.num_items + item_id
    )
    unique, inverse = key.unique(return_inverse=True)
    if snapshot is None:
        features = catalogue.features(unique)
    else:
        features = catalogue.features(
            unique % catalogue.num_items, unique.div(catalogue.num_items, rounding_mode="floor")
        )
    # index_select has a deterministic, fast backward; advanced indexing sorts again.
    vectors = model.items(on_device(features, device))
    vectors = vectors.index_select(0, to_device(inverse.flatten(), device))
    return vectors.unflatten(0, inverse.shape)


def user_vectors(
    model: TwoTower, catalogue: Catalogue, state: SessionState, snapshot: Tensor | None = None
) -> Tensor:
    """Unit vectors [B, D] of `state` [B] on the processor, its items seen at `snapshot` [B]."""
    history_BLD = history_vectors(model, catalogue, state, snapshot)
    return model.users(on_device(state, device_of(model)), history_BLD)


def history_vectors(
    model: TwoTower, catalogue: Catalogue, state: SessionState, snapshot: Tensor | None = None
) -> Tensor:
    """Unit vectors [B, L, D] of the latest events that the towers see.

    Raises:
        SchemaError: the states have another number of user features than the model.
    """
    check_user_features(model, state)
    recent_BL = state.history_item_id[:, -model.shape.history_length :]
    column = None if snapshot is None else snapshot[:, None]
    return item_vectors(model, catalogue, recent_BL, column)


def check_user_features(model: TwoTower, state: SessionState) -> None:
    """Raise a SchemaError unless the states have as many user features as the model."""
    got, expected = state.user_features.shape[-1], model.shape.num_user_features
    if got != expected:
        raise SchemaError(
            "the states have another number of user features", got=got, expected=expected
        )
