"""Threads that compute answers, and the queue before them.

A computation that is surely short runs in the server's own thread, between two reads: handing it
to another thread and back would cost a third of its time. Longer ones run in worker threads, and
health and refusals are answered meanwhile. With several worker threads all of them do.
"""

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from attnrec.runtime.deadline import Deadline, DeadlineExceeded
from attnrec.runtime.errors import ModelFileError
from attnrec.runtime.serving.connections import MOST_UNREAD, Connections
from attnrec.runtime.serving.errors import (
    ARRIVED,
    CLOSE,
    GONE,
    STOPS,
    ClientGone,
    Refused,
)
from attnrec.runtime.serving.limits import ServerLimits

logger = logging.getLogger(__name__)

Call = Callable[[], bytes]
_Work = tuple[Call, Mapping[str, Any], asyncio.Future[bytes | Exception]]


class Workers:
    """The threads of a server and the queue before them."""

    def __init__(self, limits: ServerLimits, connections: Connections) -> None:
        self._limits = limits
        self._connections = connections
        self._free = limits.threads + limits.queue
        self._deadline = Deadline(limits.deadline)
        self._turns: deque[_Work] = deque()
        self._computed = 0.0  # when the last short call was over
        self._in_threads = 0
        self._work: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        for _ in range(limits.threads):
            threading.Thread(target=self._compute_for_ever, daemon=True).start()

    @property
    def waiting(self) -> int:
        """Requests that were taken and have no answer yet."""
        return self._limits.threads + self._limits.queue - self._free

    async def run(self, call: Call, state: Mapping[str, Any], *, is_short: bool) -> bytes:
        """The result of the call. `Refused` if too many wait, if it takes too long, or if too
        much is not read by others.

        state: of the request; a call whose client has gone away meanwhile is not made.
        """
        if not self._free:
            detail = f"{self._limits.queue} requests are waiting already, try again soon"
            raise Refused(503, detail, headers={"Retry-After": "1"}, limit=self._limits.queue)
        self._free -= 1
        try:
            if is_short and self._limits.threads == 1 and not self._in_threads:
                answer = await self._between_reads(call, state)
            else:
                answer = await self._in_a_thread(call, state)
            return self._checked(answer)
        except DeadlineExceeded as error:
            detail = (
                f"the answer takes {error}; ask for less, try again soon, or start the server "
                "with a larger --deadline"
            )
            raise Refused(503, detail, headers={"Retry-After": "1"}) from error
        except ModelFileError as error:  # titles and item vectors are read on first use
            logger.warning("%s", error)
            detail = (
                "this needs the file that is served, which is no longer in its place: put it "
                "back, or reload the server with the file that is there"
            )
            raise Refused(503, detail) from error
        except asyncio.CancelledError:
            raise Refused(503, STOPS, headers=CLOSE) from None
        finally:
            self._free += 1

    def _checked(self, answer: bytes) -> bytes:
        """The answer, if there is room to keep it until its client has read it."""
        if self._connections.has_room_for(len(answer)):
            return answer
        detail = (
            f"{self._connections.unread} bytes of answers wait for clients that do not read them, "
            f"the limit is {MOST_UNREAD}; ask for fewer items, or try again soon"
        )
        raise Refused(503, detail, headers={"Retry-After": "1"}, limit=MOST_UNREAD)

    async def _between_reads(self, call: Call, state: Mapping[str, Any]) -> bytes:
        """At once, unless others wait: then the server reads other requests between the calls."""
        if not self._turns and state[ARRIVED] >= self._computed:
            return _raised(self._computed_now(call, state))
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._turns.append((call, state, future))
        if len(self._turns) == 1:
            loop.call_soon(self._next_turns)
        return _raised(await future)

    def _next_turns(self) -> None:
        """Answer some waiting requests: one, and more for as long as everything else took.

        In a flood, reading and refusing takes most of a round of the loop: with one answer a round
        there would be almost none.
        """
        begun = time.perf_counter()
        until = begun + (begun - self._computed)
        while self._turns:
            call, state, future = self._turns.popleft()
            if not future.cancelled():
                future.set_result(self._computed_now(call, state))
                if self._computed > until:
                    break
        if self._turns:
            asyncio.get_running_loop().call_soon(self._next_turns)

    def _computed_now(self, call: Call, state: Mapping[str, Any]) -> bytes | Exception:
        try:
            return _outcome(call, state, self._deadline)
        finally:
            self._computed = time.perf_counter()

    async def _in_a_thread(self, call: Call, state: Mapping[str, Any]) -> bytes:
        future = asyncio.get_running_loop().create_future()
        self._in_threads += 1
        try:
            self._work.put((call, state, future))
            return _raised(await future)
        finally:
            self._in_threads -= 1

    def _compute_for_ever(self) -> None:
        """The loop of a worker thread; asyncio's own pool costs 70 microseconds a call more."""
        deadline = Deadline(self._limits.deadline)
        while True:
            call, state, future = self._work.get()
            if not future.cancelled():
                result = _outcome(call, state, deadline)
                with suppress(RuntimeError):  # the loop has ended meanwhile
                    future.get_loop().call_soon_threadsafe(partial(_settle, future, result))
                del result
            del call, state, future  # an idle thread holds no file that was replaced


def _outcome(call: Call, state: Mapping[str, Any], deadline: Deadline) -> bytes | Exception:
    """The result of a call, or its error."""
    if state.get(GONE):
        return ClientGone()
    try:
        return deadline.run(call)
    except Exception as error:
        return error


def _raised(result: bytes | Exception) -> bytes:
    if isinstance(result, Exception):
        raise result
    return result


def _settle(future: asyncio.Future[bytes | Exception], result: bytes | Exception) -> None:
    if not future.cancelled():
        future.set_result(result)
