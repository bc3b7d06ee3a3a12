import logging
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One small local Ray for all tests that need one."""
    import ray

    torch.set_num_threads(1)
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()
