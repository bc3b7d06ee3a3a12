"""What the settings of a device may say. Configurations import this, which needs no torch."""

from __future__ import annotations

import re
from enum import Enum

from recomind.errors import ConfigError

_NAME = re.compile(r"auto|cpu|cuda(:\d+)?")
_EXPECTED = "auto, cpu, cuda or cuda:N"


class MatmulPrecision(Enum):
    """In which numbers matrix products are computed on a CUDA device; sums stay in float32."""

    full = "full"  # float32, as on a processor
    tf32 = "tf32"  # float32 whose products are rounded to ten bits of mantissa
    bf16 = "bf16"  # autocast to bfloat16


def check_device_name(name: str, setting: str = "device") -> None:
    """Raise unless `name` could name a device; whether it is there is `find_device`'s question.

    Raises:
        ConfigError: another word.

    >>> check_device_name("cuda:1")
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(setting, got=name, expected=_EXPECTED)
