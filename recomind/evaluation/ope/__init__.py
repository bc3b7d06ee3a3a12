"""Off-policy evaluation: what another policy would have earned, from logs with propensities."""

from recomind.evaluation.ope.bandit import bandit_sessions, read_feedback, write_feedback
from recomind.evaluation.ope.estimate import Overlap, estimate_all, overlap_of
from recomind.evaluation.ope.estimators import ESTIMATORS
from recomind.evaluation.ope.fqe import fitted_q
from recomind.evaluation.ope.logs import LoggedSessions, Settings, Target

__all__ = [
    "ESTIMATORS",
    "LoggedSessions",
    "Overlap",
    "Settings",
    "Target",
    "bandit_sessions",
    "estimate_all",
    "fitted_q",
    "overlap_of",
    "read_feedback",
    "write_feedback",
]
