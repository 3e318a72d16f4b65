"""The learning curve that a training tells, line by line. Needs only Python, on Linux."""

import json
import time
from pathlib import Path
from typing import Any


class Curve:
    """Times what is training and what is not, and prints a line of JSON for each epoch.

    Two clocks: `training_seconds` stands still from `pause` to `go_on`; `seconds` never does.
    """

    def __init__(self) -> None:
        """When the data are in memory and fitting is about to begin."""
        self.best, self.best_epoch, self.epoch = -1.0, 0, 0
        self.seconds, self.processor_seconds = 0.0, 0.0
        self._began = time.monotonic()

    def go_on(self) -> None:
        """Training begins, or begins again."""
        self._since = time.monotonic(), time.process_time()

    def pause(self) -> None:
        """Something else begins: validation, mostly."""
        wall, processor = self._since
        self.seconds += time.monotonic() - wall
        self.processor_seconds += time.process_time() - processor

    def tell(self, ndcg: float) -> bool:
        """The end of an epoch and its validation, while paused. Whether it is the best so far."""
        self.epoch += 1
        self._print(
            epoch=self.epoch,
            ndcg=round(ndcg, 6),
            training_seconds=round(self.seconds, 2),
            processor_seconds=round(self.processor_seconds, 2),
            seconds=round(time.monotonic() - self._began, 2),
        )
        if ndcg <= self.best:
            return False
        self.best, self.best_epoch = ndcg, self.epoch
        return True

    def end(self, stopped_by: str, **facts: Any) -> None:
        """After the last epoch; facts: what else is to be kept."""
        self._print(stopped_by=stopped_by, peak_mb=round(peak_megabytes()), **facts)

    def _print(self, **values: Any) -> None:
        print(json.dumps(values), flush=True)


def peak_megabytes() -> float:
    """Highest resident memory of this program; what getrusage tells may be of who started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
