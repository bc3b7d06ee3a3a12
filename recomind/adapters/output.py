"""Checks the output of an external model and turns it into logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from recomind.adapters.config import ExternalConfig, OutputKind
from recomind.errors import SchemaError

EDGE = 1e-6  # probabilities are kept this far from 0 and 1, where logits are infinite


def checked_logits(
    output: Any, leading: tuple[int, ...], config: ExternalConfig, name: str
) -> Tensor:
    """Logits [*leading, H] float32 from the model's output.

    Args:
        output: tensor or array [*leading, H]; [*leading] is enough for a single task.
        leading: (R,) for flat rows, (B, K) for a split module.
        config: the tasks, and whether these are probabilities or logits.
        name: of the model, for errors.

    Raises:
        SchemaError: another type or shape, a value that is not finite, or a probability outside
            [0, 1].
    """
    values = _tensor(output, leading, config, name)
    if not bool(torch.isfinite(values).all()):
        raise SchemaError(
            f"{name} returned a value that is not finite",
            got=_first(values, ~torch.isfinite(values), config),
            expected="finite numbers",
            mend="look at what ranker.external.inputs returns for this row (missing features?)",
        )
    if config.output is OutputKind.logits:
        return values
    outside = (values < -EDGE) | (values > 1 + EDGE)
    if bool(outside.any()):
        raise SchemaError(
            f"{name} returned a value that is no probability",
            got=_first(values, outside, config),
            expected="in [0, 1]",
            mend="set ranker.external.output=logits if the model returns logits",
        )
    return values.clamp(EDGE, 1 - EDGE).logit()


def _tensor(output: Any, leading: tuple[int, ...], config: ExternalConfig, name: str) -> Tensor:
    """`output` as float32 [*leading, H]."""
    shape = (*leading, len(config.tasks))
    if isinstance(output, np.ndarray) and output.dtype.kind in "fiub":
        output = torch.from_numpy(output)
    if not isinstance(output, Tensor) or not output.is_floating_point():
        dtype = getattr(output, "dtype", None)
        raise _unfit(
            f"{type(output).__name__}{f' of {dtype}' if dtype else ''}", shape, config, name
        )
    if tuple(output.shape) == leading and len(config.tasks) == 1:
        output = output[..., None]
    if tuple(output.shape) != shape:
        raise _unfit(str(list(output.shape)), shape, config, name)
    return output.detach().to(torch.float32)


def _unfit(got: str, shape: tuple[int, ...], config: ExternalConfig, name: str) -> SchemaError:
    return SchemaError(
        f"{name} returned another shape or type",
        got=got,
        expected=f"floats {list(shape)}, a column for each of the tasks {config.tasks}",
        mend="let the model return one tensor, and name its columns in ranker.external.tasks",
    )


def _first(values: Tensor, where: Tensor, config: ExternalConfig) -> str:
    """The first value of `where`, with its task and row."""
    index = where.nonzero()[0].tolist()
    row = index[0] if len(index) == 2 else tuple(index[:-1])
    number = int(where.sum())
    return (
        f"{values[tuple(index)].item():g} for task {config.tasks[index[-1]]!r} in row {row} "
        f"({number} of {where.numel()} values)"
    )
