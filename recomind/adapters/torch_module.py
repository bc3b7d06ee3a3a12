"""Torch modules: one that a function of the user builds, and a TorchScript file.

Weights are safetensors. A TorchScript file holds a program, which torch's own reader
(a restricted one, not Python's unpickler) runs: load one only from where you would run code from.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from recomind.adapters.config import ExternalConfig
from recomind.artifacts import brief, first_mismatch
from recomind.errors import ArtifactError, ConfigError
from recomind.plugins import resolve, users_error

_MOST_DEFLATED = 1032  # most bytes that one of a deflate stream stands for, by zlib


def load_torch(config: ExternalConfig, path: Path) -> nn.Module:
    """The module that `config.factory` builds, with the weights of `path`, frozen.

    Raises:
        ConfigError: the factory cannot be had, or builds no module.
        ArtifactError: the file is not safetensors, or does not fit the module.
    """
    factory = resolve(config.factory, setting="ranker.external.factory")
    # Fresh weights are drawn and then overwritten: nobody else's luck may depend on that.
    with torch.random.fork_rng(devices=[]):
        try:
            module = factory() if callable(factory) else None
        except Exception as error:
            raise users_error("ranker.external.factory fails", error) from error
    if not isinstance(module, nn.Module):
        raise ConfigError(
            "ranker.external.factory builds no module",
            got=f"{config.factory} gives {type(module).__name__}",
            expected="a function without arguments that returns a torch.nn.Module",
        )
    try:
        safetensors.torch.load_model(module, path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ArtifactError(
            "ranker.external.path holds no safetensors",
            got=f"{path}: {error}",
            mend="write it with safetensors.torch.save_model(model, path)",
        ) from error
    except RuntimeError as error:
        raise ArtifactError(
            "weights do not fit the module of ranker.external.factory",
            got=f"{first_mismatch(error)}, in {path}",
        ) from error
    return module.eval().requires_grad_(False)


def load_torchscript(config: ExternalConfig, path: Path) -> nn.Module:
    """The module of a TorchScript file, in evaluation mode, on the CPU.

    Raises:
        ArtifactError: not a TorchScript file.
    """
    del config
    with warnings.catch_warnings():
        # torch 2.13 calls the format deprecated; files in it are still what many have.
        warnings.filterwarnings(
            "ignore", message=r"`torch\.jit\.load` is deprecated", category=DeprecationWarning
        )
        try:
            _require_sizes_that_can_be(path)
            module = torch.jit.load(str(path), map_location="cpu")
        except Exception as error:  # a damaged archive raises whatever its part raises
            raise ArtifactError(
                "ranker.external.path holds no TorchScript",
                got=f"{path}: {brief(error)}",
                expected="a file written by torch.jit.save",
            ) from error
    return module.eval()


def _require_sizes_that_can_be(path: Path) -> None:
    """Refuse an archive whose entries claim more than their bytes can hold.

    Torch allocates what is claimed: a damaged entry of 300 bytes that claimed 4 GiB did not come to
    an end in two minutes.
    """
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            each = 1 if entry.compress_type == zipfile.ZIP_STORED else _MOST_DEFLATED
            if entry.file_size > entry.compress_size * each:
                raise ValueError(
                    f"{entry.filename} claims {entry.file_size} bytes, in {entry.compress_size}"
                )


def unpacking(module: nn.Module) -> Callable[[Any], Any]:
    """`module` as a function of one thing: a tuple is its arguments, a mapping its keywords."""

    def run(inputs: Any) -> Any:
        if isinstance(inputs, Mapping):
            return module(**inputs)
        return module(*inputs) if isinstance(inputs, (tuple, list)) else module(inputs)

    return run
