"""The old name of `recomind.adapters`."""

from recomind.aliases import moved_module

__getattr__ = moved_module(__name__, "recomind.adapters")
