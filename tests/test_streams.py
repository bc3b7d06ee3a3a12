"""Counter-based draws: the published generator's numbers, the same on every device."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recomind.streams import _hash_on_device, hash_int64, hash_uniform

# Of splitmix64 that begins at 0, from its authors' C code.
PUBLISHED = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC)


def test_the_published_numbers_come_out() -> None:
    for salt, number in enumerate(PUBLISHED):
        for drawn in (hash_int64, _hash_on_device):
            assert int(drawn(torch.tensor(0), salt)) % 2**64 == number


@pytest.mark.parametrize(
    "x",
    [
        torch.tensor(5),
        torch.arange(0),
        torch.arange(12).view(3, 4).T,
        torch.arange(3)[:, None].expand(3, 5),
        torch.randint(-(2**63), 2**63 - 1, (1000,), generator=torch.Generator().manual_seed(0)),
    ],
    ids=["number", "empty", "transposed", "expanded", "wide"],
)
def test_a_processor_draws_what_other_devices_draw(x: Tensor) -> None:
    for salt in (0, 3, 77):
        drawn = hash_int64(x, salt)
        assert drawn.dtype == torch.int64
        assert torch.equal(drawn, _hash_on_device(x, salt))


def test_uniforms_are_the_upper_bits_and_never_0_or_1() -> None:
    x = torch.arange(100_000).view(100, 1000).T
    unit = hash_uniform(x, 3)
    assert unit.dtype == torch.float32
    upper = (hash_int64(x, 3) >> 41) & (2**23 - 1)
    assert torch.equal(unit.double(), (upper + 0.5) / 2**23)
    assert float(unit.min()) > 0.0
    assert float(unit.max()) < 1.0
    assert abs(float(unit.double().mean()) - 0.5) < 0.005
