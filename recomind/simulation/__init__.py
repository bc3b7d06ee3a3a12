"""Whole sessions: the batched environment, response and leave models, simulators."""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.rewards import task_weights
    from recomind.simulation.check import check_environment
    from recomind.simulation.collect import collect_sessions
    from recomind.simulation.config import Pessimism, SimulatorConfig
    from recomind.simulation.environment import BatchedSessions, Hidden, World
    from recomind.simulation.findings import check_world
    from recomind.simulation.gym_views import SessionEnv, SessionVectorEnv
    from recomind.simulation.simulator import FittedSessions, LearnedSimulator, TreeSimulator
    from recomind.simulation.states import append_event, state_tensors
    from recomind.simulation.store import (
        fit_holdout,
        fit_simulator,
        load_holdout,
        load_simulator,
    )
    from recomind.streams import LANE_ACT, LANE_BEGIN, LANE_POOL, LANE_WORLD
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "LANE_ACT",
    "LANE_BEGIN",
    "LANE_POOL",
    "LANE_WORLD",
    "BatchedSessions",
    "FittedSessions",
    "Hidden",
    "LearnedSimulator",
    "Pessimism",
    "SessionEnv",
    "SessionVectorEnv",
    "SimulatorConfig",
    "TreeSimulator",
    "World",
    "append_event",
    "check_environment",
    "check_world",
    "collect_sessions",
    "fit_holdout",
    "fit_simulator",
    "load_holdout",
    "load_simulator",
    "state_tensors",
    "task_weights",
]
