"""Counts and times of a server, as text that Prometheus reads."""

import os
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Seconds; upper bounds of the classes of the histogram."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[str, dict[str, object], float]
"""Name, labels, value."""


class Metrics:
    """What a server has done since it started; for one thread."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._classes: dict[str, list[int]] = {}
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self.reloads: Counter[str] = Counter({"success": 0, "failure": 0})
        self._started = time.time()

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Count a request. route: one of few, never what a client has made up."""
        self._requests[route, status] += 1
        classes = self._classes.get(route)
        if classes is None:
            classes = self._classes[route] = [0] * (len(BOUNDS) + 1)
        classes[bisect_left(BOUNDS, seconds)] += 1
        self._seconds[route] += seconds

    def render(self, gauges: Sequence[tuple[str, str, dict[str, object], float]]) -> bytes:
        """Everything as text. gauges: (name, help, labels, value) of what only others know."""
        lines = [
            *_family("attnrec_requests_total", "counter", "Requests answered.", self._counts()),
            *_family(
                "attnrec_request_seconds", "histogram", "From head to answer.", self._histogram()
            ),
            *_family(
                "attnrec_reloads_total", "counter", "Attempts to load the file again.",
                [("attnrec_reloads_total", {"result": key}, n) for key, n in self.reloads.items()],
            ),
        ]  # fmt: skip
        for name, help_, labels, value in [*gauges, *_process(self._started)]:
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += _family(name, kind, help_, [(name, labels, value)])
        return ("\n".join(lines) + "\n").encode()

    def _counts(self) -> list[Sample]:
        return [
            ("attnrec_requests_total", {"route": route, "status": status}, n)
            for (route, status), n in sorted(self._requests.items())
        ]

    def _histogram(self) -> list[Sample]:
        name, samples = "attnrec_request_seconds", list[Sample]()
        for route, classes in sorted(self._classes.items()):
            n = 0
            for bound, inside in zip((*BOUNDS, "+Inf"), classes, strict=True):
                n += inside
                samples.append((f"{name}_bucket", {"route": route, "le": bound}, n))
            samples.append((f"{name}_sum", {"route": route}, self._seconds[route]))
            samples.append((f"{name}_count", {"route": route}, n))
        return samples


def _family(name: str, kind: str, help_: str, samples: Sequence[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {help_}"
    yield f"# TYPE {name} {kind}"
    for sample, labels, value in samples:
        pairs = ",".join(f'{key}="{_escape(str(text))}"' for key, text in labels.items())
        yield f"{sample}{{{pairs}}} {value}" if pairs else f"{sample} {value}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _process(started: float) -> list[tuple[str, str, dict[str, object], float]]:
    """The usual gauges of a process; the resident memory only where /proc tells."""
    times = os.times()
    found: list[tuple[str, str, dict[str, object], float]] = [
        ("process_start_time_seconds", "Start since 1970.", {}, started),
        ("process_cpu_seconds_total", "Processor time.", {}, times.user + times.system),
    ]
    pages = Path("/proc/self/statm")
    if pages.exists():
        resident = int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        found.append(("process_resident_memory_bytes", "Resident memory.", {}, resident))
        n_files = len(os.listdir("/proc/self/fd"))
        found.append(("process_open_fds", "Open files and connections.", {}, n_files))
    return found
