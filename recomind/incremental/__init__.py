"""Incremental inference: sessions that go on are encoded by their newest event alone."""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.incremental.encodings import Beside, RunningEncodings
    from recomind.incremental.events import Handle
    from recomind.incremental.precision import FastJoint
    from recomind.incremental.trunk_items import TrunkItems
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = ["Beside", "FastJoint", "Handle", "RunningEncodings", "TrunkItems"]
