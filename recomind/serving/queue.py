"""Who is answered and who is turned away: one bounded queue before all replicas.

A request takes its place once its body is read. It is turned away at once where the queue is full,
or where those before it would keep it waiting for longer than half of its deadline, by how fast
answers have lately been given. Whoever is free takes all that waits, up to a batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from recomind.errors import RecomindError, ServiceError
from recomind.serving.config import ServingConfig
from recomind.serving.http import Asked
from recomind.serving.metrics import ServiceMetrics
from recomind.serving.replica import Loaded, Replica, Reply

_SMOOTHING = 0.2  # weight of the latest batch in the mean time of a request
_PATIENT_SHARE = 0.5  # share of the deadline that may be spent waiting
_HUNG_AFTER = 4.0  # deadlines
_RESTART_S = 1.0  # between attempts to start a replica that ended

_log = logging.getLogger(__name__)


class Refused(Exception):
    """The request is not admitted; ask again after `retry_after_s` whole seconds."""

    def __init__(self, reason: str, retry_after_s: int) -> None:
        super().__init__(reason)
        self.reason, self.retry_after_s = reason, retry_after_s


@dataclass(slots=True)
class _Place:
    asked: Asked
    deadline: float  # on the loop's clock
    reply: asyncio.Future[Reply] = field(repr=False)
    num_attempts: int = 0


class RequestQueue:
    """A bounded queue, and one task a replica that works it off.

    Args:
        replicas: what answers.
        config: bounds and deadlines.
    """

    def __init__(self, replicas: Sequence[Replica], config: ServingConfig) -> None:
        self.replicas, self.config = list(replicas), config
        self.metrics = ServiceMetrics(lambda: len(self._places), lambda: self.num_ready)
        self._places: deque[_Place] = deque()
        self._waiting = asyncio.Event()
        self._num_in_flight = 0
        self._seconds_each = 0.0  # mean time of a request, of one replica
        self._tasks: list[asyncio.Task[None]] = []
        self._retired: set[int] = set()  # ids of replicas that are being replaced
        self._down: set[int] = set()  # ids of replicas that are being started again

    @property
    def num_ready(self) -> int:
        """Replicas that answer."""
        return sum(id(each) not in self._down for each in self.replicas) if self._tasks else 0

    async def start(self) -> Loaded:
        """Start every replica, all at once, and begin to answer.

        Raises:
            RecomindError: one of them does not start; none is left running.
        """
        loaded = await _start_all(self.replicas)
        self._begin()
        return loaded

    async def replace(self, replicas: Sequence[Replica]) -> Loaded:
        """Let other replicas answer from now on; the old ones end once theirs is answered.

        Raises:
            RecomindError: one of them does not start; the old ones go on as if nothing had been.
        """
        loaded = await _start_all(replicas)
        old, tasks = self.replicas, self._tasks
        self._retired |= {id(replica) for replica in old}
        self.replicas = list(replicas)
        self._begin()
        self._waiting.set()  # so that those who wait for requests see that they are retired
        await asyncio.gather(*tasks, return_exceptions=True)
        for replica in old:
            await asyncio.to_thread(replica.close)
        gone = {id(replica) for replica in old}
        self._retired, self._down = self._retired - gone, self._down - gone
        return loaded

    def _begin(self) -> None:
        self._tasks = [asyncio.create_task(self._work(replica)) for replica in self.replicas]

    async def close(self) -> None:
        """Stop answering and end the replicas; what still waits is refused."""
        for task in self._tasks:
            task.cancel()
        for replica in self.replicas:
            await asyncio.to_thread(replica.close)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for place in self._places:
            place.reply.cancel()
        self._places.clear()
        self._tasks = []

    def check_room(self) -> None:
        """Raise `Refused` where one more request would not be answered in time."""
        config = self.config
        if not self.num_ready:
            raise Refused("no replica is ready", math.ceil(_RESTART_S))
        num_before = len(self._places) + self._num_in_flight
        wait_s = self._seconds_each * num_before / self.num_ready
        full = len(self._places) >= config.max_queued_requests
        if full or wait_s > _PATIENT_SHARE * config.request_timeout_s:
            raise Refused("too many requests are waiting", max(1, math.ceil(wait_s)))

    async def reply_to(self, asked: Asked) -> Reply:
        """The answer, or `Refused` where there is no room or it comes too late."""
        self.check_room()
        loop = asyncio.get_running_loop()
        place = _Place(asked, loop.time() + self.config.request_timeout_s, loop.create_future())
        self._places.append(place)
        self._waiting.set()
        try:
            async with asyncio.timeout_at(place.deadline):
                return await place.reply
        except TimeoutError:
            raise Refused("not answered within serving.request_timeout_s", 1) from None

    async def _work(self, replica: Replica) -> None:
        while batch := await self._next_batch(replica):
            begin = time.monotonic()
            try:
                async with self._in_flight(replica, len(batch)):
                    answered = await asyncio.to_thread(replica.answer, [p.asked for p in batch])
            except ServiceError as error:
                _log.error("%s", error)
                self._put_back(batch)
                await self._restart(replica)
                continue
            self._learn((time.monotonic() - begin) / len(batch))
            self.metrics.add(answered.counts)
            for place, reply in zip(batch, answered.replies, strict=True):
                if not place.reply.done():
                    place.reply.set_result(reply)

    async def _next_batch(self, replica: Replica) -> list[_Place]:
        """All that waits, up to `max_batch_size` bodies and the bytes of one largest body.

        Nothing for a replica that is being replaced.
        """
        batch, num_bytes = [], 0
        while not batch:
            await self._waiting.wait()
            if id(replica) in self._retired:
                return []
            now = asyncio.get_running_loop().time()
            while self._places and len(batch) < self.config.max_batch_size:
                size = len(self._places[0].asked.body)
                if batch and num_bytes + size > self.config.max_body_bytes:
                    break
                place = self._places.popleft()
                if not place.reply.done() and place.deadline > now:
                    batch.append(place)
                    num_bytes += size
            if not self._places:
                self._waiting.clear()
        return batch

    @contextlib.asynccontextmanager
    async def _in_flight(self, replica: Replica, num: int) -> AsyncIterator[None]:
        """A replica that is silent for long after everybody has gone is ended, then restarted."""
        loop = asyncio.get_running_loop()
        patience_s = _HUNG_AFTER * self.config.request_timeout_s
        alarm = loop.call_later(patience_s, loop.run_in_executor, None, replica.close)
        self._num_in_flight += num
        try:
            yield
        finally:
            self._num_in_flight -= num
            alarm.cancel()

    def _learn(self, seconds: float) -> None:
        self._seconds_each += _SMOOTHING * (seconds - self._seconds_each)

    def _put_back(self, batch: list[_Place]) -> None:
        """To the head of the queue, once; what brings a replica down twice is given up."""
        for place in reversed(batch):
            place.num_attempts += 1
            if place.num_attempts < 2:
                self._places.appendleft(place)
            elif not place.reply.done():
                place.reply.set_exception(Refused("the replica that answered it ended", 1))
        self._waiting.set()

    async def _restart(self, replica: Replica) -> None:
        """Start a replica anew, again and again, for as long as the service runs."""
        self._down.add(id(replica))
        while id(replica) not in self._retired:
            with contextlib.suppress(ServiceError):
                await asyncio.to_thread(replica.close)
            try:
                await asyncio.to_thread(replica.start)
                self._down.discard(id(replica))
                return
            except RecomindError as error:
                _log.error("a replica does not start again: %s", error)
            await asyncio.sleep(_RESTART_S)


async def _start_all(replicas: Sequence[Replica]) -> Loaded:
    """Start all at once; where one does not start, none is left running."""
    starts = [asyncio.to_thread(replica.start) for replica in replicas]
    results = await asyncio.gather(*starts, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            for replica in replicas:
                await asyncio.to_thread(replica.close)
            raise result
    loaded = results[0]
    assert isinstance(loaded, Loaded)
    return loaded
