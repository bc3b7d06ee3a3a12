"""Where tensors live: the setting `device`, copies to a device, and too little memory on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor, nn

from recomind.device_settings import MatmulPrecision, check_device_name
from recomind.errors import ConfigError, RecomindError

CPU = torch.device("cpu")
Result = TypeVar("Result")
Batch = TypeVar("Batch")


@runtime_checkable
class HasBatchSize(Protocol):
    """A `TensorClass`."""

    batch_size: torch.Size


def find_device(name: str, setting: str = "device") -> torch.device:
    """The device that a setting names.

    Args:
        name: "auto" (a CUDA device where torch can use one, else the processor), "cpu", "cuda"
            (the first one) or "cuda:N".
        setting: what an error calls it.

    Raises:
        ConfigError: another word, or a device that is not there.

    >>> find_device("cpu")
    device(type='cpu')
    """
    check_device_name(name, setting)
    num = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and num == 0):
        return CPU
    index = int(name.partition(":")[2] or 0)
    if index < num:
        return torch.device("cuda", index)
    raise ConfigError(
        f"{setting}={name} is not there",
        got=_what_is_there(num),
        mend=f"set {setting}=cpu or {setting}=auto"
        + ("" if num else ", or install torch for CUDA on a machine with a GPU"),
    )


def _what_is_there(num: int) -> str:
    if num:
        return ", ".join(f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(num))
    built = torch.version.cuda
    return "cpu alone: " + ("torch without CUDA" if built is None else f"torch for CUDA {built}")


def require_precision(precision: MatmulPrecision, device: torch.device) -> None:
    """Refuse other numbers than float32 on a processor, where nothing was measured with them.

    Raises:
        ConfigError: as said.
    """
    if precision is not MatmulPrecision.full and device.type == "cpu":
        raise ConfigError(
            f"ranker.precision={precision.value} needs a CUDA device",
            got=f"device {device}",
            mend="set ranker.precision=full, or device=cuda",
        )


def device_of(model: object) -> torch.device:
    """Where the weights of `model` are; the processor where it has none."""
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return CPU if first is None else first.device


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`, without waiting for the copy; itself where it is there already.

    A copy from the processor to CUDA goes through pinned memory: from other memory it would wait.
    """
    if tensor.device == device:
        return tensor
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=device.type != "cpu")


def on_device(batch: Batch, device: torch.device) -> Batch:
    """A dataclass of tensors, such as `SessionState`, on `device`, whatever lies within it.

    It is returned itself where all of it is there, and what is no tensor stays as it is.
    """
    given: Any = batch
    if isinstance(given, Tensor):
        return cast(Batch, to_device(given, device))
    if not dataclasses.is_dataclass(given):
        return batch
    parts = {field.name: getattr(given, field.name) for field in dataclasses.fields(given)}
    moved = {name: on_device(part, device) for name, part in parts.items()}
    if all(moved[name] is part for name, part in parts.items()):
        return batch
    size = {"batch_size": given.batch_size} if isinstance(given, HasBatchSize) else {}
    made: Any = type(given)
    return made(**moved, **size)


@contextmanager
def forked_generators(device: torch.device) -> Iterator[None]:
    """The global generators of the processor and of `device` are afterwards as they were."""
    others = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=others):
        yield


@contextmanager
def products_in(precision: MatmulPrecision) -> Iterator[None]:
    """Meanwhile float32 products on CUDA are rounded to TF32, unless in full precision."""
    before = torch.get_float32_matmul_precision()
    if precision is not MatmulPrecision.full:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def rounding(precision: MatmulPrecision, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 for a forward pass, where `precision` asks for it."""
    if precision is MatmulPrecision.bf16:
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def within_memory(
    attempt: Callable[[int], Result],
    size: int,
    what: str,
    setting: str,
    probe: Callable[[int], object],
) -> Result:
    """`attempt(size)`; where the device has too little memory for it, the size that would fit.

    Args:
        attempt: what is to be done.
        size: with how much at once.
        what: what an error calls it.
        setting: which setting lowers the size.
        probe: needs as much memory as `attempt`, and changes nothing; tried with halves of `size`.

    Raises:
        RecomindError: the memory of the device does not suffice.
    """
    try:
        return attempt(size)
    except torch.OutOfMemoryError as error:
        full = str(error).splitlines()[0]
    # Outside of the handler, whose traceback would keep the tensors.
    fits = _largest_that_fits(probe, size // 2)
    mend = f"set {setting}={fits}" if fits else "use another device; not even one fits"
    raise RecomindError(
        f"too little memory on the device for {what}", got=f"{setting}={size}: {full}", mend=mend
    )


def _largest_that_fits(probe: Callable[[int], object], size: int) -> int:
    """The first of `size` and its halves that fits; 0 where none does."""
    while size >= 1:
        try:
            probe(size)
            return size
        except torch.OutOfMemoryError:
            size //= 2
    return 0
