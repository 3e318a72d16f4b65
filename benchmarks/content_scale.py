"""How long it takes to compare what describes the items, and how much memory.

    python benchmarks/content_scale.py --items 10000 100000 1000000

Every item has 20 words, drawn by Zipf's law from as many words as there are items, at most
200,000. Each catalogue is compared in a process of its own, on one thread. Prints a table.
"""

import argparse
import resource
import subprocess
import sys
import time

import numpy as np

from attnrec.train.models.configs import NeighbourConfig
from attnrec.train.models.content_based import ContentNeighbours, Describer
from attnrec.train.splits.split import Catalogue

_WORDS = 20


def catalogue(n_items: int) -> Catalogue:
    """Items with 20 words each and a count of events."""
    rng = np.random.default_rng(0)
    n_words = min(n_items, 200_000)
    share = 1 / np.arange(1, n_words + 1)
    drawn = rng.choice(n_words, (n_items, _WORDS), p=share / share.sum())
    titles = np.array([" ".join(f"w{word}" for word in row) for row in drawn.tolist()], object)
    n_events = 1 + rng.geometric(0.05, n_items)
    return Catalogue(np.arange(1, n_items + 1), n_events, titles)


def compare(n_items: int) -> None:
    """One row of the table."""
    items = catalogue(n_items)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    began = time.monotonic()
    model = ContentNeighbours(NeighbourConfig(n_items, n_neighbours=24))
    model.compare(Describer(items, shared=True), items, items.n_events)
    seconds = time.monotonic() - began
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    kept = float((model.neighbour > 0).sum()) / n_items
    print(f"| {n_items:,} | {seconds:.0f} s | {most:.1f} GB ({before:.1f} before) | {kept:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    given = parser.parse_args()
    if len(given.items) == 1:
        compare(*given.items)
        return
    print("| items | time | most memory | neighbours |\n|--:|--:|--:|--:|", flush=True)
    for n_items in given.items:
        subprocess.run([sys.executable, __file__, "--items", str(n_items)], check=True)


if __name__ == "__main__":
    main()
