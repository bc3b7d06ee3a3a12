"""The old name of `recomind.adapters.dlrm`."""

from recomind.moved import moved_module

__getattr__ = moved_module(__name__, "recomind.adapters.dlrm")
