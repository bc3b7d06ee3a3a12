"""An algorithm of somebody's own: Q-learning under another name."""

from __future__ import annotations

from recomind.training.dqn.algorithm import SessionDQN, SessionDQNConfig
from recomind.training.session_config import RLAlgorithm


class ToyConfig(SessionDQNConfig):
    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or Toy)


class Toy(SessionDQN):
    @classmethod
    def get_default_config(cls) -> ToyConfig:
        return ToyConfig()


ALGORITHM = RLAlgorithm(config=ToyConfig)
NO_ALGORITHM = ToyConfig
