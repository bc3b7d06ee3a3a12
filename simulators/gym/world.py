"""`gym`: a `World` from any Gymnasium environment whose action is an item or a slate of items.

A session is one episode of one sub-environment, seeded by the session's seed: equal seeds are equal
users, and as long as two policies show the same items, they see the same random outcomes. After
their choices differ, outcomes are common only as far as the environment draws them in the same
order.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from recomind.errors import ArtifactError, ConfigError, SchemaError
from recomind.findings import Finding, Level, finding
from recomind.plugins import resolve
from recomind.simulation.environment import Hidden, World, check_horizon
from recomind.streams import SessionStreams, hash_int64
from recomind.types import Catalogue, Policy, Response, SessionState
from simulators.gym.actions import EnvMaker, ItemActions, guarded
from simulators.gym.items import with_values
from simulators.gym.policies import LOGGING
from simulators.gym.pool import ReadSession, SessionPool
from simulators.gym.reading import Reading
from simulators.gym.sample import make_reading, take_sample

_DEFAULT_READING = "simulators.gym.reading.DefaultReading"
_UNUSED = -1  # fills the table of shown items
_SALT_SEED, _SALT_USER = 101, 103
_BITS = 31  # length of a sub-environment's seed, which every generator accepts


class GymWorld(World):
    """Sessions of a Gymnasium environment.

    User features may change at every step: the reading computes them from the latest observation. A
    session that the environment ends although the user did not leave (its own time limit) is
    truncated.

    Args:
        env_id: such as "CartPole-v1", or "shop.feed:Feed-v0" where importing `shop.feed` registers
            it; that module must lie below an allowed prefix.
        env_arguments: passed to `gymnasium.make`.
        reading: dotted name of a class; see `simulators.gym.reading.Reading`.
        logging: the logging policy: "random", "epsilon" (the best items of the random sample, with
            exploration), or the dotted name of a function (world) -> Policy.
        vectorization: "sync", or "async" for one process per session.
        num_items: only the first `num_items` actions are items; 0 for all.
        max_envs: largest number of sub-environments, that is, of sessions at once.
        world_seed: selects the random sample that readings are fitted to.
        reward_weights: task -> weight; those of the reading where None.

    Raises:
        ConfigError: there is no such environment or reading, or an action is not an item.
        SchemaError: an observation or a reward is not a number.
    """

    def __init__(
        self,
        *,
        env_id: str,
        env_arguments: Mapping[str, Any] | None = None,
        reading: str = _DEFAULT_READING,
        logging: str = "random",
        vectorization: str = "sync",
        num_items: int = 0,
        horizon: int = 40,
        history_length: int = 40,
        max_envs: int = 10_000,
        world_seed: int = 0,
        reward_weights: Mapping[str, float] | None = None,
    ) -> None:
        if vectorization not in ("sync", "async"):
            raise ConfigError("world.vectorization", got=vectorization, expected="sync or async")
        for name, value, least in (("num_items", num_items, 0), ("max_envs", max_envs, 1)):
            if value < least:
                raise ConfigError(f"world.{name}", got=value, expected=f">= {least}")
        self.env_id, self._logging = env_id, logging
        make = EnvMaker(env_id=env_id, arguments=dict(env_arguments or {}))
        env = make()
        actions = ItemActions.of(env.action_space, env_id)
        self._num_actions = actions.num_items
        num_items = min(num_items or actions.num_items, actions.num_items)
        check_horizon(horizon)
        self.sample = guarded(
            env_id, take_sample, env, actions, num_items=num_items, horizon=horizon, seed=world_seed
        )
        self.reading: Reading = guarded(env_id, make_reading, reading, env, self.sample)
        env.close()
        self._pool = SessionPool(
            partial(ReadSession, make, self.reading, actions),
            in_processes=vectorization == "async",
            most=max_envs,
            env_id=env_id,
        )
        self.user_feature_names = list(self.reading.user_feature_names)
        super().__init__(
            catalogue=self._catalogue(num_items),
            tasks=tuple(self.reading.tasks),
            reward_weights=reward_weights or self.reading.reward_weights,
            horizon=horizon,
            history_length=history_length,
        )
        self._features_PU = torch.zeros(0, len(self.user_feature_names))  # by place

    def _catalogue(self, num_items: int) -> Catalogue:
        catalogue = guarded(self.env_id, self.reading.catalogue, num_items)
        if catalogue.num_items != num_items:
            raise ConfigError(
                f"the catalogue of the reading does not hold the items of {self.env_id}",
                got=f"{catalogue.num_items} items",
                expected=f"{num_items}, one for each action",
                mend="return that many from catalogue(num_items), or set world.num_items",
            )
        return guarded(self.env_id, with_values, catalogue)

    def logging_policy(self) -> Policy:
        """The policy that `logging` names."""
        if self._logging in LOGGING:
            return LOGGING[self._logging](self)
        if "." not in self._logging:
            raise ConfigError(
                "unknown logging policy of the world",
                got=self._logging,
                expected=f"one of {list(LOGGING)}, or the dotted name of (world) -> Policy",
            )
        return resolve(self._logging, setting="world.logging")(self)

    def reset(
        self, num_sessions: int, generator: torch.Generator, *, auto_reset: bool = False
    ) -> SessionState:
        """Start `num_sessions` sessions whose seeds come from `generator`."""
        self._pool.release()
        return super().reset(num_sessions, generator, auto_reset=auto_reset)

    def reset_to(self, seeds: Tensor) -> SessionState:
        """Start one session for each of the given seeds [B] int64."""
        self._pool.release()
        return super().reset_to(seeds)

    def set_state(self, tensors: Mapping[str, Tensor], *, auto_reset: bool = True) -> SessionState:
        """Continue where `get_state` was taken, by replaying the same items for the same seeds.

        Raises:
            ArtifactError: the environment responds differently than before.
        """
        state = super().set_state(tensors, auto_reset=auto_reset)
        self._pool.release()
        place = self._begin_at(self.streams)
        shown_BT = self._hidden["shown"]
        self._hidden = self._hidden | {"place": place, "over": self._ended.clone()}
        for step in range(int(state.step.max())):
            rows = (state.step > step).nonzero()[:, 0]
            self._note(place[rows], self._pool.step(place[rows], shown_BT[rows, step]).features)
        if not torch.allclose(self._features_PU[place], state.user_features, atol=1e-4):
            raise ArtifactError(
                f"sessions of {self.env_id} cannot be resumed",
                got="different observations for the same seeds and items",
                mend="draw all randomness from self.np_random, and seed it in reset()",
            )
        return state

    def remarks(self) -> list[Finding]:
        """Findings about how the environment was read."""
        num, offered = self.catalogue.num_items, self._num_actions
        found = [finding(Level.note, f"{self.env_id}: {num} of its {offered} actions are items")]
        if num < offered:
            found = [
                finding(
                    Level.warning,
                    "some actions of the environment are not items",
                    f"{num} of {offered}",
                    mend="set world.num_items=0 if all of them are",
                )
            ]
        of_reading = getattr(self.reading, "remarks", None)
        return found + (of_reading(self.sample) if of_reading else [])

    def _begin(self, streams: SessionStreams) -> tuple[SessionState, Hidden]:
        num, length = len(streams.seeds), self.history_length
        place = self._begin_at(streams)
        state = SessionState(
            user_id=hash_int64(streams.seeds, _SALT_USER) & (2**62 - 1),
            user_features=self._features_PU[place],
            history_item_id=torch.zeros(num, length, dtype=torch.int64),
            history_feedback=torch.zeros(num, length, len(self.tasks), dtype=torch.bool),
            history_dwell_s=torch.zeros(num, length),
            history_gap_s=torch.zeros(num, length),
            history_mask=torch.zeros(num, length, dtype=torch.bool),
            gap_s=torch.zeros(num),
            step=torch.zeros(num, dtype=torch.int64),
            batch_size=[num],
        )
        shown_BT = torch.full((num, self.horizon), _UNUSED, dtype=torch.int64)
        none = torch.zeros(num, dtype=torch.bool)
        return state, {"place": place, "shown": shown_BT, "cut": none, "over": none.clone()}

    def _begin_at(self, streams: SessionStreams) -> Tensor:
        """Begin sessions with the seeds of `streams`; returns their places [B] int64."""
        place = self._pool.take(len(streams.seeds))
        seeds = hash_int64(streams.seeds, _SALT_SEED) & (2**_BITS - 1)
        self._note(place, self._pool.begin(place, seeds).features)
        return place

    def _note(self, place: Tensor, features: Tensor) -> None:
        lacking = int(place.max()) + 1 - len(self._features_PU)
        if lacking > 0:
            more = torch.zeros(lacking, features.shape[1])
            self._features_PU = torch.cat([self._features_PU, more])
        self._features_PU[place] = features

    def _restart(self, where: Tensor) -> None:
        self._pool.release(self._hidden["place"][where])
        super()._restart(where)

    def _respond(
        self, state: SessionState, hidden: Hidden, item_id: Tensor, streams: SessionStreams
    ) -> tuple[Response, Hidden]:
        del streams  # the environments draw from their own seeds
        num, alive = len(item_id), (~hidden["over"]).nonzero()[:, 0]
        response = Response(
            feedback=torch.zeros(num, len(self.tasks), dtype=torch.bool),
            dwell_s=torch.zeros(num),
            left=torch.zeros(num, dtype=torch.bool),
            env_reward=torch.zeros(num),
            batch_size=[num],
        )
        if len(alive) == 0:
            return response, hidden
        self._check_items(item_id[alive])
        place = hidden["place"][alive]
        seen = self._pool.step(place, item_id[alive])
        self._note(place, seen.features)
        response.feedback[alive], response.dwell_s[alive] = seen.feedback, seen.dwell_s
        response.left[alive] = seen.left
        assert response.env_reward is not None  # set above
        response.env_reward[alive] = seen.reward
        after = hidden | {name: hidden[name].clone() for name in ("shown", "cut", "over")}
        after["shown"][alive, state.step[alive]] = item_id[alive]
        after["cut"][alive] = seen.cut
        after["over"][alive] = seen.cut | seen.left | (state.step[alive] + 1 >= self.horizon)
        return response, after

    def _check_items(self, item_id: Tensor) -> None:
        low, high = int(item_id.min()), int(item_id.max())
        if low < 0 or high >= self.catalogue.num_items:
            raise SchemaError(
                "there is no such item",
                got=low if low < 0 else high,
                expected=f"in [0, {self.catalogue.num_items})",
            )

    def _features_now(self, state: SessionState, hidden: Hidden) -> Tensor:
        return self._features_PU[hidden["place"]]

    @property
    def cuts_early(self) -> bool:
        """Whether sessions may be truncated before the horizon."""
        return True

    def _cut(self, hidden: Hidden) -> Tensor:
        return hidden["cut"]

    def close(self) -> None:
        """Close all sub-environments and their processes."""
        self._pool.close()
