"""Signals that end a training, with the steps so far in a checkpoint."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from attnrec.train.run_files import is_first_process

_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class Stopped(KeyboardInterrupt):
    """A signal asked for the end, and the state of the training is whole."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interruption:
    """The first signal waits for the end of a step, a second one ends it at once."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._is_stepping = False

    def check(self) -> None:
        """`Stopped` after a signal. In a training by several processes, the first decides."""
        if self._number is not None and is_first_process():
            raise Stopped(self._number)

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """For a block that changes the state, and calls `check` where it is whole."""
        self._is_stepping = True
        try:
            yield
        finally:
            self._is_stepping = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """What a signal does."""
        if self._number is not None and is_first_process():
            raise KeyboardInterrupt
        self._number = number
        if not self._is_stepping:
            self.check()


@contextmanager
def interruption() -> Iterator[Interruption]:
    """For a block in the main thread, which alone gets signals. Ignored ones stay ignored."""
    noted = Interruption()
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {n: signal.getsignal(n) for n in _SIGNALS}
    own = [n for n, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in own:
        signal.signal(number, noted.note)
    try:
        yield noted
    finally:
        for number in own:
            signal.signal(number, before[number])
