"""Load files one by one, each in a process of its own with limits, and print the outcome.

    python tests/hostile/loading.py SECONDS FILE...

One JSON object a line: the outcome ("answers", the name of an error, or of the signal that
ended it after SECONDS), the message, seconds of computing and the peak of memory in MB. Needs
`fork`: then the time of a file is its own, without imports.
"""

import json
import os
import resource
import signal
import sys
import time

from attnrec.runtime import Recommender

MEMORY = 3 * 2**30


def load_and_recommend(path: str) -> None:
    """Load the file, test it and recommend once."""
    recommender = Recommender.load(path)
    recommender.selftest()
    recommender.recommend([])


def load(path: str, seconds: float) -> dict[str, object]:
    """What happens in a child process."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.setitimer(signal.ITIMER_REAL, seconds)  # ends the process
    start = time.process_time()  # whatever else this machine is doing
    outcome, message = "answers", ""
    try:
        load_and_recommend(path)
    except Exception as error:
        outcome, message = type(error).__name__, str(error)
    taken = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"outcome": outcome, "message": message, "seconds": taken, "peak_mb": peak}


def in_child(path: str, seconds: float) -> dict[str, object]:
    """Fork, load, and read the result; a child that was ended has none."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, json.dumps(load(path, seconds)).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        text = pipe.read()
    status = os.waitpid(child, 0)[1]
    if not text:
        ended_by = signal.Signals(os.WTERMSIG(status)).name
        return {"outcome": ended_by, "message": "", "seconds": seconds, "peak_mb": 0}
    found: dict[str, object] = json.loads(text)
    return found


if __name__ == "__main__":
    limit, *paths = sys.argv[1:]
    for path in paths:
        result = in_child(path, float(limit))
        sys.stdout.write(json.dumps(result) + "\n")
