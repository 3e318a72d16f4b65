"""One way to make an onnxruntime session: quiet, and with the threads that were asked for."""

import ctypes
import os
from collections.abc import Sequence
from mmap import mmap
from typing import Any
from weakref import WeakSet

import onnxruntime

from attnrec.runtime.forking import outside_of_forks
from attnrec.runtime.memory import release_free_memory
from attnrec.runtime.model_file import mapping
from attnrec.runtime.model_file.reading import check_is_same

_SMALL = 4 << 20
"""Bytes of a file whose answers need little memory. There malloc, which keeps some for each
thread, is quicker than onnxruntime's arena, which has a lock: two threads answer 1.9 times what
one does instead of 1.6 (`benchmarks/request_path.py`)."""
_with_threads: WeakSet[onnxruntime.InferenceSession] = WeakSet()


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


def make_session(
    model: bytes | mmap,
    *,
    n_threads: int = 1,
    providers: Sequence[Any] | None = None,
    place: bytes | None = None,
) -> onnxruntime.InferenceSession:
    """A session over the bytes of a model; onnxruntime's own exceptions where it refuses them.

    place: of the file that they lie in, from which large tensors are to be mapped into memory.
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
    """A session over a file that was read and checked; what is large in it stays there."""
    place = mapping.real_place(path) if len(content) > mapping.LARGE else None
    session = make_session(content, n_threads=n_threads, providers=providers, place=place)
    if place is not None:
        check_is_same(place, content)
    release_free_memory()
    return session


def _keep_inherited_sessions() -> None:
    """In a forked child: the sessions of the parent are never destroyed.

    Their threads stayed in the parent, and the destructor would wait for them for ever.
    """
    for session in _with_threads:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_keep_inherited_sessions)
