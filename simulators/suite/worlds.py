"""The twelve worlds of the suite by name, and which half a recipe is chosen on (docs/adr/0012)."""

from __future__ import annotations

from simulators.suite.boredom import Boredom
from simulators.suite.clickbait import Clickbait
from simulators.suite.day import Day
from simulators.suite.delayed import Delayed
from simulators.suite.drift import Drift
from simulators.suite.herding import Herding
from simulators.suite.mood import Mood
from simulators.suite.ranker_optimal import RankerOptimal
from simulators.suite.repetition import Repetition
from simulators.suite.satiation import Satiation
from simulators.suite.steady import Steady
from simulators.suite.time_budget import TimeBudget
from simulators.suite.world import SuiteWorld

WORLDS: dict[str, type[SuiteWorld] | type[Satiation]] = {
    "satiation": Satiation,
    "drift": Drift,
    "boredom": Boredom,
    "repetition": Repetition,
    "clickbait": Clickbait,
    "day": Day,
    "mood": Mood,
    "delayed": Delayed,
    "herding": Herding,
    "time_budget": TimeBudget,
    "steady": Steady,
    "ranker_optimal": RankerOptimal,
}

# Pairs of alike: one to choose a recipe on and one to judge it; fixed before any training.
CHOSEN_ON = ("satiation", "boredom", "day", "mood", "herding", "ranker_optimal")
HELD_BACK = ("drift", "repetition", "clickbait", "delayed", "time_budget", "steady")
