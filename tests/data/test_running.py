from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recomind.data.running import Earlier


@settings(max_examples=50, deadline=None)
@given(
    events=st.lists(
        st.tuples(st.integers(-9, 9), st.integers(0, 2), st.integers(0, 1), st.integers(-5, 5)),
        min_size=1,
        max_size=30,
    ),
    length=st.integers(1, 8),
)
def test_sums_equal_those_of_a_loop(events, length):
    time, user, tab, value = (np.array(column) for column in zip(*events, strict=True))
    earlier = Earlier(time, user, tab)
    before = [
        sorted(
            (j for j in range(len(events)) if events[j][1:3] == e[1:3] and events[j][0] < e[0]),
            key=lambda j: events[j][0],  # sorted keeps the given order at equal times
        )
        for e in events
    ]
    latest = [time[i] - max((time[j] for j in b), default=np.nan) for i, b in enumerate(before)]
    since = [sum(time[j] >= time[i] - length for j in b) for i, b in enumerate(before)]
    recent = [sum(value[j] for j in b[-length:]) for b in before]
    np.testing.assert_allclose(earlier.count(), [len(b) for b in before])
    np.testing.assert_allclose(earlier.total(value), [sum(value[j] for j in b) for b in before])
    np.testing.assert_allclose(earlier.recent(value, length), recent)
    np.testing.assert_allclose(earlier.elapsed(), latest)
    np.testing.assert_allclose(earlier.count_since(length), since)
