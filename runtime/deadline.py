"""Ending computations that take too long, from the outside: onnxruntime looks at a flag."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import onnxruntime

Result = TypeVar("Result")


class _Current(threading.local):
    options: onnxruntime.RunOptions | None = None


current = _Current()
"""What the calls of this thread run with."""


class DeadlineExceeded(Exception):
    """A call was ended because it took longer than allowed."""


class Deadline:
    """Calls of a model that may take so many seconds each; for one thread.

    A watching thread looks four times in that time, so that a call costs no timer; a call ends
    at most a quarter late, between two nodes of the graph.
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
        current.options = self._options
        try:
            return call()
        except Exception as error:  # onnxruntime has no class for an ended run
            if self._ended:
                raise DeadlineExceeded(f"longer than {self.seconds:g} seconds") from error
            raise
        finally:
            current.options = None
            self._ends = None  # the watching thread may just have looked; the next call forgets it

    def _watch(self) -> None:
        while True:
            time.sleep(self.seconds / 4)
            with self._lock:
                if self._ends is not None and time.monotonic() > self._ends:
                    self._options.terminate = self._ended = True
