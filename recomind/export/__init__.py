"""The production scorer, the formats it is exported to, and their parity checks."""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.export.comparing import compare
    from recomind.export.config import ExportConfig
    from recomind.export.formats import ExportFormat, ExportJob, make_formats
    from recomind.export.golden import Golden, random_states
    from recomind.export.parity import export_and_verify
    from recomind.export.raw import RawInputs, read_raw_inputs
    from recomind.export.scorer import ExportRecord, PolicyScorer, export_policy, load_scorer
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "ExportConfig",
    "ExportFormat",
    "ExportJob",
    "ExportRecord",
    "Golden",
    "PolicyScorer",
    "RawInputs",
    "compare",
    "export_and_verify",
    "export_policy",
    "load_scorer",
    "make_formats",
    "random_states",
    "read_raw_inputs",
]
