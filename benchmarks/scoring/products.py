"""The matrix products of a decision, and nothing else: what scoring could not cost less than.

Symbols: `B` states, `L` history events, `K` candidates, `D` width, `M` hidden width, `n` batched
products, `r` rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recomind.ranker import SessionRanker


@dataclass(slots=True)
class Product:
    """`left @ right`, a plain one [r, a] x [a, c] or a batched one [n, r, a] x [n, a, c]."""

    name: str
    left: Tensor
    right: Tensor
    out: Tensor

    def fresh(self) -> Tensor:
        """The product as anyone writes it, its result in new memory."""
        return self.left @ self.right

    def into(self) -> None:
        """The product alone: its result overwrites that of the last time."""
        torch.matmul(self.left, self.right, out=self.out)


def products_of(ranker: SessionRanker, num: int, num_candidates: int) -> list[Product]:
    """Every product of `encode_state` and `score` for `num` states with a full recent history."""
    length = ranker.config.recent_length
    shapes = [
        *_of_events(ranker, num, length),
        *_of_state(ranker, num, length),
        *_of_candidates(ranker, num, num_candidates, length),
    ]
    generator = torch.Generator().manual_seed(0)
    return [_make(name, left, right, generator) for name, left, right in shapes]


Shapes = tuple[str, tuple[int, ...], tuple[int, ...]]


def _of_events(ranker: SessionRanker, num: int, length: int) -> Iterator[Shapes]:
    """The event's linear map, the transformer's products, and the keys and values for the gate."""
    dim, heads, rows = ranker.config.dim, ranker.config.num_heads, num * length
    yield _linear("event", rows, ranker.events.linear)
    head = dim // heads
    for layer in ranker.transformer.layers:
        # Attention's logits over all pairs of events, later ones included, and its sums.
        queries = (num * heads, length, head), (num * heads, head, length)
        weights = (num * heads, length, length), (num * heads, length, head)
        linears = [m for m in layer.modules() if isinstance(m, nn.Linear)]
        yield from (_linear("transformer_linear", rows, linear) for linear in linears)
        yield "attention_logits", *queries
        yield "attention_sums", *weights
    yield _linear("gate_keys", rows, ranker.gate)
    yield _linear("gate_values", rows, ranker.value)


def _of_state(ranker: SessionRanker, num: int, length: int) -> Iterator[Shapes]:
    """The decayed sums, the network over them, and what of the state meets the candidates."""
    dim = ranker.config.dim
    yield "decayed_sums", (num, ranker.pool.num_sums, length), (num, length, dim)
    linears = [m for m in ranker.state.modules() if isinstance(m, nn.Linear)]
    for linear in [*linears, ranker.wide_user, ranker.cross]:
        yield _linear("state_linear", num, linear)


def _of_candidates(ranker: SessionRanker, num: int, k: int, length: int) -> Iterator[Shapes]:
    """Gates, what they let through, and the scoring network; the item half is in the table."""
    dim, hidden = ranker.config.dim, ranker.config.hidden
    yield "gate_logits", (num, k, dim), (num, dim, length)
    yield "gate_sums", (num, k, length), (num, length, dim)
    yield _linear("event_part", num * k, ranker.event_part)
    yield "hidden_first", (num * k, hidden), (hidden, hidden)
    yield "hidden_cross", (num, k, dim), (num, dim, hidden)
    yield _linear("head", num * k, ranker.head)


def _linear(name: str, rows: int, linear: nn.Linear) -> Shapes:
    return name, (rows, linear.in_features), (linear.in_features, linear.out_features)


def _make(
    name: str, left: tuple[int, ...], right: tuple[int, ...], generator: torch.Generator
) -> Product:
    """Random factors; the right one is stored transposed, as a linear layer's weight is."""
    first = torch.randn(left, generator=generator)
    second = torch.randn(*right[:-2], right[-1], right[-2], generator=generator).mT
    return Product(name, first, second, first @ second)
