"""Items and users of the embedded world, each a pure function of its id.

Nothing is stored, so a catalogue of 1e8 items needs no memory: an attribute is a hash of
(id, attribute), mapped by the inverse distribution function of that attribute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from recomind.errors import SchemaError
from recomind.streams import hash_int64, hash_normal, hash_uniform
from recomind.types import ItemFeatures
from simulators.video_feed.presets import WorldParameters

_MEAN_AGE_DAYS = 10.0
_NUM_AUTHORS_MODULUS = 1000


@dataclass(kw_only=True, slots=True)
class Items:
    """True attributes of items of any shape `[...]`."""

    topic: Tensor  # int64
    quality: Tensor  # float32, standard normal; hidden
    quality_signal: Tensor  # float32, standard normal; visible, correlated with quality
    duration_s: Tensor  # float32, seconds
    age_days: Tensor  # float32, days


class HashedCatalogue:
    """A `Catalogue` of `num_items` videos that exist only as hashes of their ids."""

    dense_names: tuple[str, ...] = ("quality_signal", "log_duration", "age")
    categorical_names: tuple[str, ...] = ("topic", "author")

    def __init__(self, num_items: int, parameters: WorldParameters, seed: int = 0) -> None:
        if num_items < 1:
            raise SchemaError("the catalogue is empty", got=num_items, expected=">= 1 item")
        self.num_items, self.parameters, self.seed = num_items, parameters, seed
        self.vocab_sizes: tuple[int, ...] = (parameters.num_topics, _NUM_AUTHORS_MODULUS)

    def items(self, item_id: Tensor, day: Tensor | None = None) -> Items:
        """Attributes of `item_id` [...], including the hidden quality.

        Args:
            item_id: the items.
            day: broadcastable to them; where the world drifts, quality is that of the day, and the
                visible signal goes on telling that of the first.
        """
        p, key = self.parameters, hash_int64(item_id, 1000 + self.seed)
        quality, noise = hash_normal(key, 2), hash_normal(key, 3)
        rho = p.quality_signal_correlation
        log_duration = torch.log(torch.tensor(p.duration_median_s)) + p.duration_sigma * (
            hash_normal(key, 4)
        )
        return Items(
            topic=(hash_uniform(key, 1) * p.num_topics).long(),
            quality=turned(quality, partial(hash_normal, key, 6), day, p),
            quality_signal=rho * quality + (1 - rho**2) ** 0.5 * noise,
            duration_s=log_duration.exp().clamp(5.0, 300.0),
            age_days=-_MEAN_AGE_DAYS * torch.log(hash_uniform(key, 5)),
        )

    def features(self, item_id: Tensor, snapshot: Tensor | None = None) -> ItemFeatures:
        """Visible content of `item_id` [...]; the world's items do not change."""
        items, p = self.items(item_id), self.parameters
        log_duration = (items.duration_s / p.duration_median_s).log() / p.duration_sigma
        age = items.age_days / _MEAN_AGE_DAYS - 1.0
        author = hash_int64(item_id, 2000 + self.seed).remainder(_NUM_AUTHORS_MODULUS)
        return ItemFeatures(
            dense=torch.stack([items.quality_signal, log_duration, age], dim=-1),
            categorical=torch.stack([items.topic, author], dim=-1),
        )


def turned(
    first: Tensor, later: Callable[[], Tensor], day: Tensor | None, parameters: WorldParameters
) -> Tensor:
    """`first` on day 0, turned towards an independent `later` day by day, with equal variance."""
    if day is None or parameters.turn_per_day == 0.0:
        return first
    angle = parameters.turn_per_day * day
    return angle.cos() * first + angle.sin() * later()


class HashedUsers:
    """Users as functions of their id: hidden taste, visible cohort and activity."""

    def __init__(self, parameters: WorldParameters, seed: int = 0) -> None:
        self.parameters, self.seed = parameters, seed

    @property
    def feature_names(self) -> list[str]:
        """Names of the visible features, in order."""
        return [f"cohort_{c}" for c in range(self.parameters.num_cohorts)] + ["activity"]

    def cohort(self, user_id: Tensor) -> Tensor:
        """[B] int64."""
        uniform = hash_uniform(user_id, 3000 + self.seed)
        return (uniform * self.parameters.num_cohorts).long()

    def activity(self, user_id: Tensor) -> Tensor:
        """[B] float32 in (0, 1): visible; determines the patience at the start of a session."""
        return hash_uniform(user_id, 3100 + self.seed)

    def day(self, user_id: Tensor) -> Tensor:
        """[B] int64: the day on which the user comes; there are so many that each comes once."""
        return (hash_uniform(user_id, 3400 + self.seed) * self.parameters.num_days).long()

    def cohort_taste(self, user_id: Tensor) -> Tensor:
        """[B, T] float32: mean taste of the user's cohort on the user's day, standard normal."""
        keys, day_B1 = self._topic_keys(self.cohort(user_id)), self.day(user_id)[:, None]
        first = hash_normal(keys, 3200 + self.seed)
        later = partial(hash_normal, keys, 3500 + self.seed)
        return turned(first, later, day_B1, self.parameters)

    def taste(self, user_id: Tensor) -> Tensor:
        """[B, T] float32, standard normal: the user's taste, which is in no log.

        Where the world drifts it is the cohort's part that turns: a user's own is met only once.
        """
        own = hash_normal(self._topic_keys(user_id), 3300 + self.seed)
        share = self.parameters.cohort_share
        return share**0.5 * self.cohort_taste(user_id) + (1 - share) ** 0.5 * own

    def features(self, user_id: Tensor) -> Tensor:
        """[B, U] float32: cohort one-hot and standardised activity."""
        one_hot = torch.nn.functional.one_hot(self.cohort(user_id), self.parameters.num_cohorts)
        activity = (self.activity(user_id) - 0.5) * 12**0.5
        return torch.cat([one_hot.float(), activity[:, None]], dim=-1)

    def _topic_keys(self, key: Tensor) -> Tensor:
        topics = torch.arange(self.parameters.num_topics)
        return hash_int64(key, 7)[:, None] + topics * 0x5851F42D
