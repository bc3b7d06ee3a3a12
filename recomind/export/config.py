"""Settings of the export stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from recomind.errors import ConfigError
from recomind.export.formats import RANKER_KINDS, format_target


class ExportTarget(Enum):
    """What a policy becomes; lower case, since Hydra matches names."""

    scorer = "scorer"
    ranker = "ranker"


@dataclass(kw_only=True, slots=True)
class ExportConfig:
    """What is written beside the scorer itself."""

    # onnx, onnx_fp16, onnx_int8, triton, torch_export, ranker, torch_module, or a dotted name
    formats: list[str] = field(default_factory=list)
    # ranker: also the policy as a ranker of ours, from which train-ranker can go on
    target: ExportTarget = ExportTarget.scorer
    distil_states: int = 6000  # logged states that a ranker is distilled from
    distil_epochs: int = 5  # passes over them

    def __post_init__(self) -> None:
        for name in self.formats:
            format_target(name)
        if len(set(self.formats)) < len(self.formats):
            raise ConfigError("export.formats names a format twice", got=self.formats)
        for name in ("distil_states", "distil_epochs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"export.{name}", got=getattr(self, name), expected=">= 1")

    def check_ranker(self, kind: str) -> None:
        """Raise ConfigError where a format does not fit the ranker, before anything is trained.

        Args:
            kind: `ranker.external.kind`, "none" for a ranker of ours.
        """
        for name in self.all_formats:
            kinds = RANKER_KINDS.get(name, (kind,))
            if kind not in kinds:
                raise ConfigError(
                    f"the export format {name!r} cannot hold a policy on this ranker",
                    got=f"ranker.external.kind={kind}",
                    expected=f"one of {', '.join(kinds)}",
                    mend="export.formats=[onnx] holds a ranker of any kind",
                )

    @property
    def all_formats(self) -> list[str]:
        """The formats, with the one that the target stands for."""
        target = self.target.value
        wanted = self.target is not ExportTarget.scorer and target not in self.formats
        return [*self.formats, *([target] if wanted else [])]
