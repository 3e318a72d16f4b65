"""Deadlines: a watching thread sets a flag of onnxruntime that ends a call."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import onnxruntime

Result = TypeVar("Result")


class _Current(threading.local):
    options: onnxruntime.RunOptions | None = None
    deadline: "Deadline | None" = None


current = _Current()
"""Run options and deadline of the calls of this thread."""


class DeadlineExceeded(Exception):
    """A call was ended because it took longer than allowed."""


class Deadline:
    """Calls of a model that may take so many seconds each; for one thread.

    A watching thread checks four times in that time, so that no call starts a timer; a call ends
    at most a quarter late, between two nodes of the graph. Code outside of onnxruntime calls
    `check_deadline` between its steps.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._options = onnxruntime.RunOptions()
        self._ends: float | None = None
        self._ended = False
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    def run(self, call: Callable[[], Result]) -> Result:
        """The result of the call. `DeadlineExceeded` if it had to be ended."""
        with self._lock:
            if self._ended:
                self._options.terminate = self._ended = False
            self._ends = time.monotonic() + self.seconds
        current.options, current.deadline = self._options, self
        try:
            return call()
        except Exception as error:  # onnxruntime has no class for an ended run
            if self._ended:
                raise self.exceeded() from error
            raise
        finally:
            current.options = current.deadline = None
            self._ends = None  # the watching thread may just have looked; the next call forgets it

    def left(self) -> float:
        """Seconds left for the present call; below 0 when it has to end."""
        return self.seconds if self._ends is None else self._ends - time.monotonic()

    def exceeded(self) -> DeadlineExceeded:
        """The error of a call that took too long."""
        return DeadlineExceeded(f"longer than {self.seconds:g} seconds")

    def _watch(self) -> None:
        while True:
            time.sleep(self.seconds / 4)
            with self._lock:
                if self._ends is not None and time.monotonic() > self._ends:
                    self._options.terminate = self._ended = True


def check_deadline() -> None:
    """`DeadlineExceeded` if the call of this thread has taken too long."""
    deadline = current.deadline
    if deadline is not None and deadline.left() < 0:
        raise deadline.exceeded()
