"""Steps of RecoGym's `RecoEnv1` with random actions, in a process of its own.

    python recogym_steps.py <products> <seconds>

prints the steps of processor time per second, after warming up for a tenth of the time.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from typing import Any

import numpy as np
import scipy

warnings.simplefilter("ignore")
sys.path.insert(0, os.environ["RECOGYM_PACKAGES"])
# RecoGym imports `scipy.rand`, an alias of this that SciPy 1.12 dropped, for an agent.
scipy.rand = np.random.rand  # type: ignore[attr-defined]


def steps_per_s(num_products: int, seconds: float) -> float:
    """Bandit steps, each with the organic sessions that RecoGym simulates between two of them."""
    from recogym.envs.reco_env_v1 import RecoEnv1, env_1_args  # type: ignore[import-not-found]

    environment, draws = RecoEnv1(), np.random.RandomState(0)
    environment.init_gym({**env_1_args, "random_seed": 0, "num_products": num_products})
    _steps(environment, draws, num_products, seconds / 10)
    begin = time.process_time()
    num = _steps(environment, draws, num_products, seconds)
    return num / (time.process_time() - begin)


def _steps(environment: Any, draws: np.random.RandomState, num: int, seconds: float) -> int:
    end, count, user = time.process_time() + seconds, 0, 0
    environment.reset(user)
    environment.step(None)
    while time.process_time() < end:
        count += 1
        if environment.step(int(draws.randint(num)))[2]:
            user += 1
            environment.reset(user)
            environment.step(None)
    return count


if __name__ == "__main__":
    print(steps_per_s(int(sys.argv[1]), float(sys.argv[2])))
