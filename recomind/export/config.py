"""Settings of the export stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from recomind.errors import ConfigError
from recomind.export.formats import format_target


@dataclass(kw_only=True, slots=True)
class ExportConfig:
    """What is written beside the scorer itself."""

    # onnx, onnx_fp16, onnx_int8, triton, or a dotted name of yours
    formats: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in self.formats:
            format_target(name)
        if len(set(self.formats)) < len(self.formats):
            raise ConfigError("export.formats names a format twice", got=self.formats)
