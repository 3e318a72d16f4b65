"""onnxruntime sessions: how one is made, and what a `fork` must not interrupt.

The child of a fork has only the thread that forked. A lock that another thread held stays locked
there for ever, and onnxruntime has such locks: without `outside_of_forks`, 3 % of the children
that were forked beside three answering threads never answered.
"""

import ctypes
import os
import threading
import time
from collections.abc import Callable, Sequence
from mmap import mmap
from typing import Any, ParamSpec, Protocol, TypeVar
from weakref import WeakSet

import onnxruntime

from attnrec.runtime.memory import release_free_memory
from attnrec.runtime.model_file import mapping
from attnrec.runtime.model_file.reading import check_is_same

_SMALL = 4 << 20
"""Bytes of a file whose answers need little memory. There malloc, which keeps some for each
thread, is quicker than onnxruntime's arena, which has a lock: two threads answer 1.9 times what
one does instead of 1.6 (`benchmarks/request_path.py`)."""
_POLL_SECONDS = 0.0005

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def check_providers(providers: Sequence[Any] | None) -> None:
    """`ValueError` for one that is not here; onnxruntime would print and go on without it."""
    if not isinstance(providers, (list, tuple, type(None))):
        raise ValueError(f"providers must be a list of names, not {repr(providers)[:60]}")
    here = onnxruntime.get_available_providers()
    for provider in providers or ():
        name = provider[0] if isinstance(provider, tuple) and provider else provider
        if not isinstance(name, str) or name not in here:
            raise ValueError(
                f"no provider {repr(name)[:60]} in this onnxruntime; there are: {', '.join(here)}"
            )


def check_session(session: Any) -> None:
    """`ValueError` for what is no session."""
    if not hasattr(session, "get_modelmeta"):
        raise ValueError(
            f"session must be an onnxruntime.InferenceSession, not {type(session).__name__}; "
            "for a file use Recommender.load"
        )


def make_session(
    model: bytes | mmap,
    *,
    n_threads: int = 1,
    providers: Sequence[Any] | None = None,
    place: bytes | None = None,
) -> onnxruntime.InferenceSession:
    """A session over the bytes of a model; onnxruntime's own exceptions where it refuses them.

    place: path of the file that holds these bytes; large tensors are then mapped from it.
    """
    options = onnxruntime.SessionOptions()
    content = (
        bytes(model) if place is None else mapping.point_to_file(memoryview(model), place, options)
    )
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = len(model) > _SMALL
    options.log_severity_level = 4  # errors arrive as exceptions, not on stderr as well
    session = outside_of_forks(
        onnxruntime.InferenceSession,
        content,
        options,
        providers=list(providers or ["CPUExecutionProvider"]),
    )
    # It would keep the bytes of the whole file, to try other providers after a failure.
    session.disable_fallback()
    session._model_bytes = None
    if n_threads > 1:
        _with_threads.add(session)
    return session


def session_of_file(
    path: str | os.PathLike[str],
    content: bytes | mmap,
    *,
    n_threads: int,
    providers: Sequence[Any] | None,
) -> onnxruntime.InferenceSession:
    """A session over a file that was read and checked; its large tensors stay in the file."""
    place = mapping.real_place(path) if len(content) > mapping.LARGE else None
    session = make_session(content, n_threads=n_threads, providers=providers, place=place)
    if place is not None:
        check_is_same(place, content)
    release_free_memory()
    return session


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


class ForkListener(Protocol):
    """An object that has to change in a forked child."""

    def after_fork(self) -> None:
        """Runs in the child before anything else."""


def notify_after_fork(listener: ForkListener) -> None:
    """Call `listener.after_fork()` in forked children, as long as the listener lives."""
    _listeners.add(listener)


class _Calls:
    """Threads inside of onnxruntime, and whether a fork waits for them."""

    def __init__(self) -> None:
        self.after_in_child()

    def after_in_child(self) -> None:
        self.inside: set[int] = set()
        self.fork_waits = False
        self.one_fork = threading.Lock()

    def before_fork(self) -> None:
        self.one_fork.acquire()
        self.fork_waits = True
        # A signal handler may fork while its own thread is about to call.
        while self.inside - {threading.get_ident()}:
            time.sleep(_POLL_SECONDS)

    def after_in_parent(self) -> None:
        self.fork_waits = False
        if self.one_fork.locked():  # a program in C may fork without `before_fork`
            self.one_fork.release()


_calls = _Calls()
_with_threads: WeakSet[onnxruntime.InferenceSession] = WeakSet()
_listeners: WeakSet[ForkListener] = WeakSet()


def _after_in_child() -> None:
    _calls.after_in_child()
    # Threads of a session stay in the parent, and the destructor would wait for them for ever: so
    # the child never destroys a session that it inherited.
    for session in _with_threads:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))
    for listener in _listeners:
        listener.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(
        before=_calls.before_fork,
        after_in_parent=_calls.after_in_parent,
        after_in_child=_after_in_child,
    )
