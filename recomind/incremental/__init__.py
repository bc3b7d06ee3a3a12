"""Incremental inference: sessions that go on are encoded by their newest event alone."""

from recomind.incremental.encodings import Beside, RunningEncodings
from recomind.incremental.events import Handle
from recomind.incremental.precision import FastJoint
from recomind.incremental.trunk_items import TrunkItems

__all__ = ["Beside", "FastJoint", "Handle", "RunningEncodings", "TrunkItems"]
