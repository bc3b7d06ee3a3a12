"""Incremental inference: sessions that go on, encoded by their newest event alone."""

from recomind.incremental.encodings import Beside, RunningEncodings
from recomind.incremental.item_tower import TrunkItems
from recomind.incremental.precision import FastJoint

__all__ = ["Beside", "FastJoint", "RunningEncodings", "TrunkItems"]
