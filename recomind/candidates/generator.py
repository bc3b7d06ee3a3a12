"""Candidates from a generator of your own: its contract, and checks of it.

class Popular:                                      # my_shop/popular.py
    def __init__(self, catalogue, top): ...
    def generate(self, state, num): ...             # ids [B, num] int64, -1 where there is none

allowed_targets: [my_shop]
candidates:
  num_generated: 8
  generator: {_target_: my_shop.popular.Popular, top: 100}
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from recomind.errors import ConfigError, SchemaError
from recomind.plugins import resolve
from recomind.types import Catalogue, SessionState

_SETTING = "candidates.generator"


@runtime_checkable
class ItemGenerator(Protocol):
    """Finds candidates for a state, always the same ones for the same state.

    It must not be random: its items count as certain to be in the pool.
    """

    def generate(self, state: SessionState, num: int) -> Tensor:
        """Item ids [B, num] int64, most wanted first; -1 where there are fewer."""
        ...


def load_generator(settings: dict[str, Any], catalogue: Catalogue) -> ItemGenerator | None:
    """The generator that `settings` names; None where it is empty.

    Args:
        settings: `_target_`, the dotted name of a class or function, which is called with the
            catalogue and, by name, with the other settings.
        catalogue: the items.

    Raises:
        ConfigError: the name is outside the allowed prefixes or cannot be imported, the call
            fails, or its result has no method `generate`.
    """
    if not settings:
        return None
    arguments = dict(settings)
    name = str(arguments.pop("_target_", ""))
    make = resolve(name, setting=f"{_SETTING}._target_")
    try:
        made = make(catalogue, **arguments)
    except Exception as error:
        raise ConfigError(
            f"{_SETTING} cannot be created",
            got=f"{name}: {type(error).__name__}: {error}",
            expected="a class or function called with the catalogue and the settings beside it",
        ) from error
    return checked_generator(made)


def checked_generator(made: object) -> ItemGenerator:
    """`made`, or a ConfigError unless it has a method `generate`."""
    if isinstance(made, type) or not isinstance(made, ItemGenerator):
        raise ConfigError(
            f"{_SETTING} is not a generator",
            got=made.__name__ if isinstance(made, type) else type(made).__name__,
            expected="an object with generate(state, num) -> item ids [B, num]",
        )
    return made


def generated(generator: ItemGenerator, state: SessionState, num: int, num_items: int) -> Tensor:
    """Ids [B, num] int64 of the generator, on the state's device.

    Raises:
        SchemaError: it did not return [B, num] ids in 0 .. num_items - 1, or -1.
    """
    found: Any = generator.generate(state, num)
    expected = (len(state.step), num)
    if not isinstance(found, Tensor):
        got = type(found).__name__
    elif found.dtype != torch.int64 or tuple(found.shape) != expected:
        got = f"{found.dtype} {tuple(found.shape)}"
    elif found.numel() and not -1 <= int(found.min()) <= int(found.max()) < num_items:
        got = f"ids {int(found.min())} .. {int(found.max())}"
    else:
        return found.to(state.step.device)
    raise SchemaError(
        f"{type(generator).__name__}.generate returned no item ids",
        got=got,
        expected=f"torch.int64 {expected}, ids 0 .. {num_items - 1}, -1 for none",
    )
