"""attnrec-serve that tells what part of its processor time its model took (on SIGUSR1)."""

import signal
import sys
import time

from attnrec.cli.main import serve
from attnrec.runtime import Recommender

plain = Recommender.recommend
spent = 0.0


def recommend(self, *arguments, **options):
    global spent
    begun = time.thread_time()
    try:
        return plain(self, *arguments, **options)
    finally:
        spent += time.thread_time() - begun


Recommender.recommend = recommend
signal.signal(signal.SIGUSR1, lambda *_: print(f"model {spent}", file=sys.stderr, flush=True))
serve()
