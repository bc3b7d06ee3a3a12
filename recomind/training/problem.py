"""What a policy is trained on, as recipes that a process elsewhere can follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from recomind.policy import RankerPolicy
from recomind.simulation.environment import BatchedSessions
from recomind.types import CandidateSource


@dataclass(kw_only=True, slots=True)
class SessionProblem:
    """Picklable factories without arguments, such as dataclasses that hold a folder.

    Every call must give the same thing: the frozen part of the network never travels between
    processes, so each of them builds its own.
    """

    environment: Callable[[], BatchedSessions]
    candidates: Callable[[], CandidateSource]
    network: Callable[[], nn.Module]  # with `q_values(state, item_id) -> (q, utility)`
    members: Callable[[], RankerPolicy] | None = None  # of the rankers that an ensemble's
    # exploration draws from; built where `training.exploration` is `ensemble`
