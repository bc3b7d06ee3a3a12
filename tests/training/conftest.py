from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One small local Ray for all tests that need one."""
    import ray

    from recomind.training.cluster import start_ray

    torch.set_num_threads(1)
    start_ray(3)
    yield
    ray.shutdown()
