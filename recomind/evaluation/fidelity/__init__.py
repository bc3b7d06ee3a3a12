"""How close a fitted simulator is to the logs, and to the world where there is one."""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.evaluation.fidelity.agreement import kendall_tau, rank_agreement
    from recomind.evaluation.fidelity.dynamics import dynamics_of, plan_note
    from recomind.evaluation.fidelity.measure import TrueWorld, measure_fidelity
    from recomind.evaluation.fidelity.page import render_page
    from recomind.evaluation.fidelity.policies import reference_policies
    from recomind.evaluation.fidelity.store import KIND, read_fidelity, write_fidelity
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "KIND",
    "TrueWorld",
    "dynamics_of",
    "kendall_tau",
    "measure_fidelity",
    "plan_note",
    "rank_agreement",
    "read_fidelity",
    "reference_policies",
    "render_page",
    "write_fidelity",
]
