"""Golden requests: random states with candidates, and the trained network's answers.

Symbols: `S` states, `K` candidates, `L` history events, `H` tasks, `U` user features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recomind.artifacts import load_tensors, loads, save_tensors
from recomind.errors import ArtifactError, ConfigError
from recomind.export.scorer import PolicyScorer, order_slots
from recomind.types import Catalogue, SessionState

GOLDEN = "golden.safetensors"
_CHUNK = 64  # states scored at once; the same on both sides
_STATE = "state."


@dataclass(kw_only=True, slots=True)
class Golden:
    """Requests and their answers."""

    state: SessionState  # [S]
    item_id: Tensor  # [S, K] int64
    mask: Tensor  # [S, K] bool, False where the slot is padding
    q: Tensor  # [S, K] float32
    utility: Tensor  # [S, K] float32
    supported: Tensor  # [S, K] bool, inside the support constraint
    order: Tensor  # [S, K] int64, slots from best to worst
    log_density: Tensor | None = None  # [S, K] float32, of the logs, where the support uses it

    def head(self, num: int) -> Golden:
        """The first `num` requests."""
        rest = {name: answer[:num] for name, answer in self._answers().items()}
        return Golden(state=self.state[:num], **rest)

    def save(self, path: Path) -> None:
        """Write safetensors."""
        tensors: dict[str, Any] = {f"{_STATE}{k}": v for k, v in self.state.to_tensordict().items()}
        save_tensors(path, tensors | self._answers())

    def _answers(self) -> dict[str, Tensor]:
        found = {name: getattr(self, name) for name in (*_ANSWERS, _DENSITY)}
        return {name: answer for name, answer in found.items() if answer is not None}

    @classmethod
    @loads("golden requests")
    def load(cls, path: Path) -> Golden:
        """Read what `save` wrote.

        Raises:
            ArtifactError: absent, or not a file of golden requests.
        """
        tensors = load_tensors(path, finite=False)  # a log-density may be -inf
        fields: dict[str, Any] = {
            k[len(_STATE) :]: v for k, v in tensors.items() if k.startswith(_STATE)
        }
        try:
            rest = {name: tensors[name] for name in _ANSWERS}
            state = SessionState(**fields, batch_size=[len(rest["q"])])
            return cls(state=state, **rest, log_density=tensors.get(_DENSITY))
        except (KeyError, TypeError, RuntimeError) as error:
            raise ArtifactError("not golden requests", got=f"{path}: {error!r}") from error


_ANSWERS = ("item_id", "mask", "q", "utility", "supported", "order")
_DENSITY = "log_density"


def random_states(
    catalogue: Catalogue,
    tasks: Sequence[str],
    num_user_features: int,
    history_length: int,
    num: int,
    generator: torch.Generator,
    *,
    start: SessionState | None = None,
) -> SessionState:
    """States [num] with histories of 0 to L random events, so that every input is exercised.

    Args:
        catalogue: where the history's items come from.
        tasks: H names.
        num_user_features: U.
        history_length: L.
        num: S.
        generator: all the randomness.
        start: [any] start states; users and their features are then drawn from these.

    Raises:
        ConfigError: no states or an empty history are asked for.
    """
    if num < 1 or history_length < 1:
        raise ConfigError("random states", got=(num, history_length), expected="both >= 1")
    shape = (num, history_length)
    count = torch.randint(history_length + 1, (num, 1), generator=generator)
    mask = torch.arange(history_length, 0, -1) <= count
    item_id = torch.randint(catalogue.num_items, shape, generator=generator)
    feedback = torch.rand(*shape, len(tasks), generator=generator) < 0.3
    dwell_s = -20.0 * torch.rand(shape, generator=generator).clamp(min=1e-6).log()
    step = torch.rand(num, generator=generator) * (count[:, 0] + 1)
    user_id, user_features = _users(start, num, num_user_features, generator)
    gap_s = -60.0 * torch.rand(num, history_length + 1, generator=generator).clamp(min=1e-6).log()
    return SessionState(
        user_id=user_id,
        user_features=user_features,
        history_item_id=item_id * mask,
        history_feedback=feedback & mask[..., None],
        history_dwell_s=dwell_s * mask,
        history_gap_s=gap_s[:, 1:] * mask,
        history_mask=mask,
        gap_s=gap_s[:, 0] * (count[:, 0] > 0),
        step=step.long(),
        batch_size=[num],
    )


def _users(
    start: SessionState | None, num: int, num_features: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    if start is None:
        features = torch.randn(num, num_features, generator=generator)
        return torch.randint(1_000_000, (num,), generator=generator), features
    row = torch.randint(len(start.step), (num,), generator=generator)
    return start.user_id[row], start.user_features[row]


def make_golden(
    scorer: PolicyScorer,
    generator: torch.Generator,
    *,
    num_states: int = 1000,
    num_candidates: int = 64,
    start: SessionState | None = None,
) -> Golden:
    """Draw requests and let `scorer` answer them; about one slot in ten is padding."""
    state = random_states(
        scorer.catalogue,
        scorer.feedback_tasks,
        scorer.num_user_features,
        scorer.history_length,
        num_states,
        generator,
        start=start,
    )
    shape = (num_states, min(num_candidates, scorer.catalogue.num_items))
    item_id = torch.randint(scorer.catalogue.num_items, shape, generator=generator)
    mask = torch.rand(shape, generator=generator) < 0.9
    mask[:, 0] = True
    return answer(scorer, state, item_id * mask, mask)


def answer(scorer: PolicyScorer, state: SessionState, item_id: Tensor, mask: Tensor) -> Golden:
    """The answers of `scorer` for the candidates [S, K]."""
    q, utility, density = _values(scorer, state, item_id)
    supported = scorer.supported(utility, mask, density)
    return Golden(
        state=state,
        item_id=item_id,
        mask=mask,
        q=q,
        utility=utility,
        supported=supported,
        order=order_slots(q, supported, utility, item_id, mask),
        log_density=density,
    )


def _values(
    scorer: PolicyScorer, state: SessionState, item_id: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Q, utility and, where the support uses it, log-density of the logs, each [S, K]."""
    values, densities = [], []
    for rows in torch.arange(len(item_id)).split(_CHUNK):
        encoding = scorer.encode_state(state[rows])
        values.append(scorer.values(encoding, item_id[rows]))
        densities.append(scorer.log_density(encoding, item_id[rows]))
    q, utility = (torch.cat(parts) for parts in zip(*values, strict=True))
    known = [density for density in densities if density is not None]
    return q, utility, torch.cat(known) if known else None
