"""A query head that retrieves what a policy values, distilled from its values of items.

Symbols: `B` states of a batch, `S` states in all, `K` items of a pool, `D` length of a vector, `N`
items.

In a pool of items near the towers' query and uniform ones, the head's inner products learn to order
the items as the values do: cross-entropy between the softmax of the values and that of the
inner products, the "top one" loss of Cao et al., "Learning to rank: from pairwise approach to
listwise approach" (ICML 2007). Values are in standard deviations over the pool, which makes the
loss independent of their scale (ours). Only the head learns; index and item vectors are fixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from recomind.data import among_rows
from recomind.errors import SchemaError
from recomind.retrieval.config import DistilConfig, IndexKind, RetrievalConfig
from recomind.retrieval.index import build_index
from recomind.retrieval.query_head import QueryHead, head_input
from recomind.retrieval.retrieval import Retrieval
from recomind.retrieval.training import OnBatch
from recomind.retrieval.two_tower import history_vectors
from recomind.types import SessionState

# States [B] and item ids [B, K] -> values [B, K]; -inf for items that may not be chosen.
ItemValues = Callable[[SessionState, Tensor], Tensor]

_CHUNK = 262_144  # (state, item) pairs valued at a time
_SCALE = 10.0  # initial factor of the inner products; it is learned with the head


def distil_queries(
    retrieval: Retrieval,
    values: ItemValues,
    state: SessionState,
    config: DistilConfig,
    generator: torch.Generator,
    on_batch: OnBatch | None = None,
) -> Retrieval:
    """The same retrieval with a query head, learned from `state` [S].

    Args:
        retrieval: towers and index; its own head, if any, is not used.
        values: the policy's values, such as `recomind.policy.SupportedValues`.
        state: [S] states, such as logged ones.
        config: settings of pools and training.
        generator: draws pools, weights and order.
        on_batch: called with each batch's loss.

    Raises:
        SchemaError: there is no state, or no item of a pool has a finite value.
    """
    if not len(state.step):
        raise SchemaError(
            "there is no state to distil a query from", mend="raise distil.num_states"
        )
    model, index, catalogue = retrieval.model, retrieval.index, retrieval.catalogue
    towers = Retrieval(model, index, catalogue, num_queries=retrieval.num_queries)
    item_SK = _pools(towers, state, config, generator)
    target_SK = pool_targets(values, state, item_SK, config.temperature)
    input_SI = _inputs(towers, state)
    head = QueryHead(model.shape, config.hidden, generator)
    _fit(head, towers, (input_SI, item_SK, target_SK), config, generator, on_batch)
    return Retrieval(model, index, catalogue, num_queries=retrieval.num_queries, head=head)


def _pools(
    retrieval: Retrieval, state: SessionState, config: DistilConfig, generator: torch.Generator
) -> Tensor:
    """Item ids [S, K]; a slot that the index cannot fill is drawn uniformly as well."""
    num_near = min(config.num_nearest, retrieval.num_items)
    num = num_near + config.num_uniform
    item_SK = torch.randint(retrieval.num_items, (len(state.step), num), generator=generator)
    if num_near:
        rows = _rows(len(state.step), num_near)
        near = torch.cat([retrieval.nearest(state[at], num_near) for at in rows])
        item_SK[:, :num_near] = torch.where(near >= 0, near, item_SK[:, :num_near])
    return item_SK


@torch.no_grad()
def pool_targets(
    values: ItemValues, state: SessionState, item_SK: Tensor, temperature: float
) -> Tensor:
    """[S, K] softmax of the values in standard deviations; 0.0 where the value is -inf."""
    rows = _rows(*item_SK.shape)
    return top_one_targets(torch.cat([values(state[at], item_SK[at]) for at in rows]), temperature)


def top_one_targets(value_SK: Tensor, temperature: float) -> Tensor:
    """[S, K] softmax of values in standard deviations over a pool; 0.0 where the value is -inf.

    Raises:
        SchemaError: a value is NaN, or a pool has no finite value.
    """
    known_SK = value_SK.isfinite()
    if bool(value_SK.isnan().any()) or not bool(known_SK.any(1).all()):
        raise SchemaError(
            "the values are not finite", expected="at least one finite value in each pool"
        )
    num_S1 = known_SK.sum(1, keepdim=True)
    plain_SK = value_SK.masked_fill(~known_SK, 0.0)
    centred_SK = plain_SK - plain_SK.sum(1, keepdim=True) / num_S1
    square_S1 = centred_SK.square().masked_fill(~known_SK, 0.0).sum(1, keepdim=True)
    deviation_S1 = (square_S1 / num_S1).sqrt().clamp(min=1e-6)
    scaled_SK = (centred_SK / deviation_S1 / temperature).masked_fill(~known_SK, -torch.inf)
    return scaled_SK.softmax(dim=1)


@torch.no_grad()
def _inputs(retrieval: Retrieval, state: SessionState) -> Tensor:
    """Inputs of the head for `state` [S]."""
    model, parts = retrieval.model, []
    for at in _rows(len(state.step), model.shape.history_length):
        history_BLD = history_vectors(model, retrieval.catalogue, state[at])
        parts.append(head_input(model, state[at], history_BLD))
    return torch.cat(parts)


def _fit(
    head: QueryHead,
    retrieval: Retrieval,
    samples: tuple[Tensor, Tensor, Tensor],
    config: DistilConfig,
    generator: torch.Generator,
    on_batch: OnBatch | None,
) -> None:
    input_SI, item_SK, target_SK = samples
    log_scale = nn.Parameter(torch.tensor(math.log(_SCALE)))
    optimiser = torch.optim.Adam([*head.parameters(), log_scale], lr=config.learning_rate)
    num_batches, done = config.num_epochs * math.ceil(len(input_SI) / config.batch_size), 0
    for _ in range(config.num_epochs):
        order_S = torch.randperm(len(input_SI), generator=generator)
        for index_B in order_S.split(config.batch_size):
            item_BKD = retrieval.item_vectors(item_SK[index_B])
            logits_BK = torch.einsum("bd,bkd->bk", head(input_SI[index_B]), item_BKD)
            loss = functional.cross_entropy(logits_BK * log_scale.exp(), target_SK[index_B])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            done += 1
            if on_batch is not None:
                on_batch(done, num_batches, float(loss.detach()))


@torch.no_grad()
def value_recall(
    retrieval: Retrieval,
    values: ItemValues,
    state: SessionState,
    num: int,
    *,
    max_items: int,
    generator: torch.Generator,
) -> float:
    """Share of the `num` items of highest value that are among the `num` nearest.

    It values every item of the catalogue: B * N values. In a catalogue above `max_items`, both sets
    are taken among that many random items, which excludes the index's own misses. If fewer than
    `num` items may be chosen, these are the ones looked for.
    """
    retrieval, item_id = _among(retrieval, max_items, generator)
    found = hits = 0
    for at in _rows(len(state.step), len(item_id)):
        value_BN = values(state[at], item_id.expand(len(state.step[at]), -1))
        best = value_BN.topk(min(num, len(item_id)), dim=1)
        true_BK = item_id[best.indices].masked_fill(best.values.isinf(), -2)
        near_BK = retrieval.nearest(state[at], min(num, len(item_id)))
        hits += int(among_rows(true_BK, near_BK).sum())
        found += int((true_BK >= 0).sum())
    return hits / max(1, found)


def _among(
    retrieval: Retrieval, max_items: int, generator: torch.Generator
) -> tuple[Retrieval, Tensor]:
    """The retrieval and all item ids; a sample of both where there are too many."""
    if retrieval.num_items <= max_items:
        return retrieval, torch.arange(retrieval.num_items)
    drawn = torch.randint(retrieval.num_items, (max_items,), generator=generator).unique()
    return _OfSample(retrieval, drawn), drawn


class _OfSample(Retrieval):
    """A retrieval that only finds items of a sample, exactly."""

    def __init__(self, retrieval: Retrieval, item_id: Tensor) -> None:
        super().__init__(
            retrieval.model,
            retrieval.index,
            retrieval.catalogue,
            num_queries=retrieval.num_queries,
            head=retrieval.head,
        )
        flat = RetrievalConfig(dim=retrieval.index.dim, kind=IndexKind.flat)
        vectors = retrieval.item_vectors
        self._sample = item_id
        self.index = build_index(lambda place: vectors(item_id[place]), len(item_id), flat)

    def nearest(self, state: SessionState, num: int) -> Tensor:
        """Ids [B, num] int64, all of the sample."""
        place = super().nearest(state, num)
        return torch.where(place >= 0, self._sample[place], -1)


def _rows(num: int, width: int) -> list[slice]:
    """Runs of rows, each of at most `_CHUNK` entries of `width`."""
    size = max(1, _CHUNK // max(1, width))
    return [slice(begin, begin + size) for begin in range(0, num, size)]
