"""The same training without RLlib, to compare results and cost with.

A plain loop over the parts that the RLlib algorithm also uses: sampler, replay, loss and target.
With one process and the same seed both give the same losses; the difference in time is RLlib's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recomind.errors import ConfigError
from recomind.training.config import TrainingConfig
from recomind.training.dqn.loss import td_loss
from recomind.training.dqn.replay import SessionReplay
from recomind.training.problem import SessionProblem
from recomind.training.sampler import SessionSampler
from recomind.training.seeding import LANE_REPLAY, run_generator
from recomind.training.target import TargetCopy, trainable
from recomind.types import TrainableQFunction


class ReferenceTrainer:
    """Simulate, store, learn, in one process.

    Args:
        problem: what to train on.
        settings: how; processes and devices are ignored.
        seed: all randomness follows from it.

    Raises:
        ConfigError: settings of another algorithm, or of a prioritised replay.
    """

    def __init__(self, problem: SessionProblem, settings: TrainingConfig, *, seed: int) -> None:
        if settings.algorithm != "dqn" or settings.prioritised > 0:
            raise ConfigError(
                "the reference trains by Q-learning from a uniform replay only",
                got={"algorithm": settings.algorithm, "prioritised": settings.prioritised},
                expected={"algorithm": "dqn", "prioritised": 0.0},
            )
        self.settings = settings
        self.sampler = SessionSampler(problem, settings, seed=seed)
        self.network: TrainableQFunction = problem.network().eval()
        self.sampler.share_network(self.network)
        self.target = TargetCopy(self.network)
        self.replay = SessionReplay(
            num_rows=settings.replay_rows, n_step=settings.n_step, gamma=settings.gamma
        )
        self.parameters = list(trainable(self.network).values())
        self.optimizer = torch.optim.Adam(self.parameters, lr=settings.learning_rate)
        self.num_env_steps = self.num_updates = 0
        self.losses: list[Tensor] = []  # one for each update
        self._generator = run_generator(seed, LANE_REPLAY)

    def run(self, num_env_steps: int) -> None:
        """Continue until `num_env_steps` events have been simulated in total."""
        while self.num_env_steps < num_env_steps:
            self.simulate()
            for _ in range(self._num_due() if len(self.replay) else 0):
                self.learn()

    def _num_due(self) -> int:
        """Number of updates that are due."""
        behind = self.num_env_steps - self.settings.learning_starts
        return behind // self.settings.env_steps_per_update - self.num_updates

    def simulate(self) -> None:
        """Add one rollout to the replay."""
        self.sampler.set_env_steps(self.num_env_steps)
        rows = self.sampler.simulate()
        self.replay.add(rows)
        self.num_env_steps += rows.num_valid

    def learn(self) -> None:
        """One update."""
        batch = self.replay.sample(self.settings.batch_size, self._generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss, _ = td_loss(
            self.network,
            self.target,
            batch,
            support_ratio=self.settings.support_ratio,
        )
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, self.settings.max_grad_norm)
        self.optimizer.step()
        self.num_updates += 1
        self._follow()
        self.losses.append(loss.detach())

    def _follow(self) -> None:
        """Move the target, or copy the network to it when due."""
        if self.settings.target_rate > 0:
            self.target.move(self.network, self.settings.target_rate)
        elif self.num_updates % self.settings.target_update_every == 0:
            self.target = TargetCopy(self.network)
