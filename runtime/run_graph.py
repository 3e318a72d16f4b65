"""One call of the graph in a file: from any thread, in any fork."""

import threading
from typing import Any

import numpy as np
import onnxruntime

from attnrec.runtime.arguments import IdArray
from attnrec.runtime.deadline import current
from attnrec.runtime.forking import outside_of_forks, tell_after_fork
from attnrec.runtime.model_file import format as names
from attnrec.runtime.origin import Origin


class RunGraph:
    """The session of a file, and where it came from."""

    origin: Origin | None = None
    """None: from a session that the application made."""

    def __init__(self, session: onnxruntime.InferenceSession, n_items: int) -> None:
        self.session = session
        self._n_items = n_items
        outputs = [value.name for value in session.get_outputs()]
        self._outputs = [name for name in outputs if name != names.ATTENTION]
        self._lost_threads = False  # of the session, in a fork
        self._reload_lock = threading.Lock()
        tell_after_fork(self)

    def __call__(
        self,
        history: IdArray,
        exclude: IdArray,
        candidates: IdArray,
        k: int,
        caller: dict[str, IdArray],
        *,
        attention: bool = False,
    ) -> list[Any]:
        """The outputs of the graph; attention as the last one if it is asked for."""
        if self._lost_threads:
            self._reload()
        feed = {
            names.HISTORY: history,
            names.EXCLUDE: exclude,
            names.CANDIDATES: candidates,
            names.K: np.array([min(k, self._n_items)], dtype=np.int64),
            **caller,
        }
        try:
            wanted = [*self._outputs, names.ATTENTION] if attention else self._outputs
            outputs: list[Any] = outside_of_forks(self.session.run, wanted, feed, current.options)
        except UnicodeEncodeError as error:
            raise ValueError(
                f"an item id is not valid Unicode: {error.object!r}; leave it out"
            ) from error
        return outputs

    def after_fork(self) -> None:
        """In a forked child: the threads of the parent and of its session are not there."""
        self._reload_lock = threading.Lock()
        self._lost_threads = self.origin is not None and self.origin.n_threads > 1

    def _reload(self) -> None:
        with self._reload_lock:
            if self._lost_threads and self.origin is not None:
                self.session = self.origin.open_after_fork()
                self._lost_threads = False
