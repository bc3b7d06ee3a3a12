"""Run a script as an environment with numpy and ONNX Runtime alone would.

    python -I bare.py SCRIPT ARGUMENT...

Importing anything else that this project stands on fails, as does reaching it by a path.
"""

from __future__ import annotations

import runpy
import sys

ABSENT = ("torch", "ray", "polars", "recomind", "safetensors", "onnx", "tensordict", "pyarrow")


class Absent:
    """Finds nothing of what is not installed there."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Refuse a module that a bare environment lacks."""
        del path, target
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"not in a bare environment: {name}")


if __name__ == "__main__":
    sys.meta_path.insert(0, Absent())  # type: ignore[arg-type]
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
    assert not set(ABSENT) & {name.partition(".")[0] for name in sys.modules}
