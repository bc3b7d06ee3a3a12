"""What recomind is told of `City`: clicks, seconds, and the topic and length of each item."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from experiments.rounds.city import LENGTH, NUM_TOPICS, TOPIC
from recomind.data import TableCatalogue
from simulators.gym.reading import DefaultReading, Moment


class CityReading(DefaultReading):
    """As somebody would write it who knows the items and not the readers."""

    tasks = ("clicked",)
    reward_weights: Mapping[str, float] = {"clicked": 1.0}

    def feedback(self, moment: Moment) -> list[bool]:
        """A click."""
        return [moment.reward > 0]

    def dwell_s(self, moment: Moment) -> float:
        """Seconds on the item."""
        return moment.info["seconds"]

    def catalogue(self, num_items: int) -> TableCatalogue:
        """Length, and topic as a category and as numbers."""
        topic = torch.from_numpy(TOPIC[:num_items])
        length = torch.from_numpy(LENGTH[:num_items]).float()
        of_topic = torch.nn.functional.one_hot(topic, NUM_TOPICS).float()
        return TableCatalogue(
            torch.cat([length[:, None], of_topic], 1)[None],
            topic[:, None],
            dense_names=["length", *(f"topic_{number}" for number in range(NUM_TOPICS))],
            categorical_names=["topic"],
            vocab_sizes=[NUM_TOPICS],
        )
