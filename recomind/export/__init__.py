"""The production scorer and its parity check."""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.export.golden import Golden, random_states
    from recomind.export.parity import compare, export_and_verify
    from recomind.export.scorer import ExportRecord, PolicyScorer, export_policy, load_scorer
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "ExportRecord",
    "Golden",
    "PolicyScorer",
    "compare",
    "export_and_verify",
    "export_policy",
    "load_scorer",
    "random_states",
]
