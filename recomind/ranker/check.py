"""The old name of `recomind.checks`."""

from recomind.moved import moved_module

__getattr__ = moved_module(__name__, "recomind.checks")
