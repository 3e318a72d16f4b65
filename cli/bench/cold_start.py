"""The program of the fresh processes that `timing` starts: from nothing to a first answer.

Arguments: file, history as JSON, the parent's clock at the start. Writes one JSON object.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any


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
    resident_mb = import_module("attnrec.runtime.memory").resident_mb
    imports_mb, code_mb = resident_mb(), resident_mb("RssFile")
    recommender = timed("load", lambda: runtime.Recommender.load(file))
    load_mb = resident_mb()
    timed("first_answer", lambda: recommender.recommend(history))
    figures["total_ms"] = 1e3 * (time.perf_counter() - started)
    figures |= {"imports_mb": imports_mb, "load_mb": load_mb, "answer_mb": resident_mb()}
    if code_mb is not None:
        figures["pages_mb"] = (resident_mb("RssFile") or 0) - code_mb
    # The part of the load that reads and checks the file, once more and by itself.
    model_file = import_module("attnrec.runtime.model_file.reading")
    timed("load_check", lambda: model_file.read_model_file(file, verify=True))
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main()
