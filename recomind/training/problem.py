"""What a policy is trained on, as recipes that any process can follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recomind.policy import RankerPolicy
from recomind.training.offline.logs import TrainingLogs
from recomind.types import CandidateSource, SessionEnvironment, TrainableQFunction


@dataclass(kw_only=True, slots=True)
class SessionProblem:
    """Picklable factories without arguments, such as dataclasses that hold a folder.

    Every call must return the same thing: the frozen part of the network never travels between
    processes, so each process builds its own.
    """

    environment: Callable[[], SessionEnvironment]
    candidates: Callable[[], CandidateSource]
    network: Callable[[], TrainableQFunction]
    # The rankers that an ensemble's exploration draws from; needed where `training.exploration`
    # is `ensemble`.
    members: Callable[[], RankerPolicy] | None = None
    # What `bc`, `cql` and `iql` learn from, in place of the environment.
    logs: Callable[[], TrainingLogs] | None = None
