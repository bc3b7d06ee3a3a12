"""Settings of a ranker that exists already."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from recomind.errors import ConfigError


class ExternalKind(Enum):
    """The format of a ranker that exists already; lower case, since Hydra matches names."""

    none = "none"
    torch = "torch"
    torchscript = "torchscript"
    onnx = "onnx"
    lightgbm = "lightgbm"


class OutputKind(Enum):
    """What an external model returns."""

    probabilities = "probabilities"
    logits = "logits"


@dataclass(kw_only=True, slots=True)
class ExternalConfig:
    """A ranker that exists already, in place of ours; see docs/bring-your-own-ranker.md."""

    kind: ExternalKind = ExternalKind.none  # what the model is stored as; none: no such ranker
    path: str = ""  # the model's file; for lightgbm also a folder with a <task>.txt each
    factory: str = ""  # kind torch: dotted name of a function () -> nn.Module the weights fit
    inputs: str = ""  # dotted name of the function RowBatch -> what the model takes
    tasks: list[str] = field(default_factory=list)  # what the outputs are, in order
    output: OutputKind = OutputKind.probabilities  # what the model returns
    chunk_rows: int = 65_536  # flat rows scored at once

    def __post_init__(self) -> None:
        if self.chunk_rows < 1:
            raise ConfigError("ranker.external.chunk_rows", got=self.chunk_rows, expected=">= 1")
