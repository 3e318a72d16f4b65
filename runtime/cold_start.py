"""The program of the fresh processes that `measuring` starts: from nothing to a first answer.

Arguments: file, history as JSON, the parent's clock at the start. Writes one JSON object.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

_OF_FILES = "RssFile"  # pages that the system can drop and read again


def main() -> None:
    """Do what an application does: milliseconds of each step, resident megabytes after it."""
    file, history, started = sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3])
    import_module("numpy")
    # One clock for all processes of a machine, on Linux, macOS and Windows alike.
    figures: dict[str, float | None] = {"python_numpy_ms": 1e3 * (time.perf_counter() - started)}

    def timed(step: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        value = call()
        figures[f"{step}_ms"] = 1e3 * (time.perf_counter() - start)
        return value

    timed("onnxruntime", lambda: import_module("onnxruntime"))
    runtime = timed("attnrec", lambda: import_module("attnrec.runtime"))
    imports_mb, code_mb = resident_mb(), resident_mb(_OF_FILES)
    recommender = timed("load", lambda: runtime.Recommender.load(file))
    load_mb = resident_mb()
    timed("first_answer", lambda: recommender.recommend(history))
    figures["total_ms"] = 1e3 * (time.perf_counter() - started)
    figures |= {"imports_mb": imports_mb, "load_mb": load_mb, "answer_mb": resident_mb()}
    if code_mb is not None:
        figures["pages_mb"] = (resident_mb(_OF_FILES) or 0) - code_mb
    # The part of the load that reads and checks the file, once more and by itself.
    model_file = import_module("attnrec.runtime.model_file.reading")
    timed("load_check", lambda: model_file.read_model_file(file, verify=True))
    sys.stdout.write(json.dumps(figures))


def resident_mb(kind: str = "VmRSS") -> float | None:
    """Resident MB (2^20 bytes), without /proc at their peak; None: the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(row.split()[1]) / 1024 for row in status if row.startswith(kind))
    except OSError:
        pass
    if kind == _OF_FILES:
        return None
    try:
        resource = import_module("resource")
    except ImportError:  # Windows
        return None
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
