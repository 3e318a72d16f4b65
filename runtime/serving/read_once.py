"""What is read from the file when a request first wants it."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Generic, TypeVar

from attnrec.runtime.deadline import current

Content = TypeVar("Content")


class ReadOnce(Generic[Content]):
    """Reads in a thread of its own. A request waits until its deadline; a later one finds it."""

    def __init__(self, read: Callable[[], Content]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._content: Future[Content] | None = None

    def get(self) -> Content:
        """The content, or the error of reading it, which is tried again the next time.

        `DeadlineExceeded` if it is not there when the call of this thread has to end.
        """
        with self._lock:
            if self._content is None or (self._content.done() and self._content.exception()):
                content = Future[Content]()
                threading.Thread(target=self._fill, args=(content,), daemon=True).start()
                self._content = content  # only where the thread did start
            content = self._content
        deadline = current.deadline
        try:
            return content.result(None if deadline is None else max(0.0, deadline.left()))
        except NotYet:
            if deadline is None or content.done():
                raise
            raise deadline.exceeded() from None

    def _fill(self, content: Future[Content]) -> None:
        try:
            content.set_result(self._read())
        except Exception as error:
            content.set_exception(error)
