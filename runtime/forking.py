"""A fork waits until no other thread is inside of onnxruntime.

The child of a fork has only the thread that forked, so a lock that another thread held stays
locked there for ever, and onnxruntime has such locks. Without the wait, 3 % of the children that
were forked beside three answering threads never answered.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar
from weakref import WeakSet

_LOOK_SECONDS = 0.0005

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class _Calls:
    """Threads inside of onnxruntime, and whether somebody forks."""

    def __init__(self) -> None:
        self.after_in_child()

    def after_in_child(self) -> None:
        """Nobody else is here."""
        self.inside: set[int] = set()
        self.fork_waits = False
        self.one_fork = threading.Lock()

    def before_fork(self) -> None:
        self.one_fork.acquire()
        self.fork_waits = True
        # A signal handler may fork while its own thread is about to call.
        while self.inside - {threading.get_ident()}:
            time.sleep(_LOOK_SECONDS)

    def after_in_parent(self) -> None:
        self.fork_waits = False
        if self.one_fork.locked():  # a program in C may fork without `before_fork`
            self.one_fork.release()


class Forked(Protocol):
    """What has to know that it is in a forked child."""

    def after_fork(self) -> None:
        """Called there, before anything else runs."""


_calls = _Calls()
_told: WeakSet[Forked] = WeakSet()


def tell_after_fork(who: Forked) -> None:
    """From now on, for as long as it lives."""
    _told.add(who)


def _tell() -> None:
    for who in _told:
        who.after_fork()


def outside_of_forks(
    call: Callable[Arguments, Result], *args: Arguments.args, **options: Arguments.kwargs
) -> Result:
    """The result of a call of onnxruntime; no fork of this process happens meanwhile."""
    me = threading.get_ident()
    _calls.inside.add(me)
    while _calls.fork_waits:
        _calls.inside.discard(me)
        with _calls.one_fork:
            pass
        _calls.inside.add(me)
    try:
        return call(*args, **options)
    finally:
        _calls.inside.discard(me)


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(
        before=_calls.before_fork,
        after_in_parent=_calls.after_in_parent,
        after_in_child=_calls.after_in_child,
    )
    os.register_at_fork(after_in_child=_tell)
