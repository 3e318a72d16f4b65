"""How much memory `attnrec-serve` takes with a file, seen in a fresh process.

That process does what the server does with a file: loads and tests it, answers, and loads it once
more while the first one is still there. No port is opened.
"""

import json
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from attnrec.runtime import Recommender
from attnrec.runtime.memory import release_free_memory, resident_mb


def served_memory(file: Path) -> dict[str, float] | None:
    """Resident MB (2^20 bytes): "served" at rest, "reloading" at the peak of a reload.

    None where the system does not tell, or the process did not come to its end.
    """
    command = [sys.executable, "-P", "-m", __name__, str(file)]
    result = subprocess.run(command, capture_output=True, text=True)
    figures: dict[str, float] | None = None
    with suppress(ValueError):
        figures = json.loads(result.stdout)
    return figures


def main() -> None:
    """Write the figures as JSON."""
    file = sys.argv[1]
    with suppress(ImportError):  # without the extra [serve]: its modules are not counted
        import_module("attnrec.cli.serve_run")
    kept = [_tested(file)]
    served = resident_mb()
    kept.append(_tested(file))
    reloading = resident_mb("VmHWM") or resident_mb()
    is_known = served is not None and reloading is not None
    sys.stdout.write(json.dumps({"served": served, "reloading": reloading} if is_known else None))


def _tested(file: str) -> Recommender:
    recommender = Recommender.load(file)
    recommender.selftest()
    history = recommender.recommend([], 50, exclude_seen=False).item_ids
    recommender.recommend(history)
    release_free_memory()
    return recommender


if __name__ == "__main__":
    main()
