"""`steady`: nothing that is shown matters for later, so there is nothing for a policy to win.

Source: ours, as the preset `steady` of the embedded world (docs/adr/0003): the control that tells
what a recipe claims where there is nothing.
"""

from __future__ import annotations

from simulators.suite.world import SuiteWorld


class Steady(SuiteWorld):
    """The shared user without a mechanism."""
