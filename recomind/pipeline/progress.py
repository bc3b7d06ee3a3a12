"""One line per stage, with the share done and the time left."""

from __future__ import annotations

import sys
import time

_REPEAT_S = 10.0  # on a plain log, a line at most so often


class StageLine:
    """Prints how a stage gets on: a live line on a terminal, now and then a line on a log.

    Args:
        title: of the stage, such as "train-policy, round 1 of 2".
    """

    def __init__(self, title: str) -> None:
        self.title, self.start, self.last = title, time.monotonic(), time.monotonic()
        self.live = sys.stderr.isatty()
        self._part_start, self._done = self.start, 0.0

    def __call__(self, done: float, total: float, note: str = "") -> None:
        """`done` of `total` units are finished; fewer than before are of the stage's next part."""
        now = time.monotonic()
        if done < self._done:
            self._part_start = now
        self._done = done
        if now - self.last < (0.2 if self.live else _REPEAT_S):
            return
        self.last = now
        share = min(1.0, done / max(total, 1e-9))
        left = ""
        if share > 0.0:  # with nothing done nobody knows
            left = f", {_clock((now - self._part_start) * (1 - share) / share)} left"
        text = f"{self.title}: {share:4.0%}{left} {note}"
        print(
            f"\r\x1b[K{text}" if self.live else text,
            end="" if self.live else "\n",
            file=sys.stderr,
            flush=True,
        )

    def remark(self, text: str) -> None:
        """A line of its own, for what a user should know of the stage."""
        print(f"\r\x1b[K  {text}" if self.live else f"  {text}", file=sys.stderr, flush=True)

    def done(self, note: str = "") -> None:
        """The stage is finished."""
        clear = "\r\x1b[K" if self.live else ""
        took = _clock(time.monotonic() - self.start)
        print(f"{clear}{self.title}: done in {took} {note}".rstrip(), file=sys.stderr, flush=True)

    def skipped(self) -> None:
        """The stage's artifact was there already."""
        print(f"{self.title}: kept from before", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
