"""Several comparisons at once: the more one looks at, the more looks significant by chance."""

from __future__ import annotations

from collections.abc import Mapping

from scipy.special import stdtr


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values: each may be compared with the level of the whole family.

    Holm: "A Simple Sequentially Rejective Multiple Test Procedure" (Scandinavian Journal of
    Statistics, 1979). No assumption on how the comparisons depend on each other.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def one_sided_p(value: float, standard_error: float, degrees: int) -> float:
    """Probability of a `value` as low or lower, were the truth 0 (Student's t)."""
    if standard_error <= 0.0:
        return 0.0 if value < 0.0 else 1.0
    return float(stdtr(degrees, value / standard_error))
