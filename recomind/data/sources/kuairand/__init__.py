"""KuaiRand-Pure as a log source."""

from recomind.data.sources.kuairand.source import KuaiRand

__all__ = ["KuaiRand"]
