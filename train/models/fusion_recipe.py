"""The settings of `fusion` that nobody gave, chosen from the log: one recipe for any log.

Every rule stands on measurements in benchmarks/accuracy/LOG.md. What is given by hand wins; what
is neither given nor here has its default. To try another rule, change a line.
"""

import numpy as np

from attnrec.train.data.split import Split
from attnrec.train.models.learned_configs import MOST_EASE_ITEMS

_LENGTHS = (20, 50, 100)
_LEAST_STEPS = 2500
_A_REAL_TIME = 10**8  # Unix seconds, 1973: the places of a log that has only an order are below


def fusion_recipe(split: Split) -> dict[str, tuple[int | float | str | bool, str]]:
    """Value and reason of every setting that follows from the training events of a log."""
    sequences, n_items = split.sequences, split.catalogue.n_items
    n_events = len(sequences.rows)
    # Of every event: how many came before it.
    place = np.arange(n_events) - np.repeat(sequences.offsets[:-1], np.diff(sequences.offsets))
    reach = int(np.quantile(place, 0.8)) if n_events else 0
    max_len = next((length for length in _LENGTHS if reach <= length), _LENGTHS[-1])
    batch_events = int(np.clip(n_events // 100, 50, 800))
    epochs = int(np.clip(np.ceil(_LEAST_STEPS * batch_events / max(1, n_events)), 20, 60))
    is_small, is_wide = n_events < 400_000, n_items > 5000
    times = sequences.timestamps
    has_times = times is not None and len(times) > 0 and float(np.median(times)) > _A_REAL_TIME
    return {
        "max_len": (max_len, f"80 % of the events have at most {reach} events before them"),
        "hidden_dim": (
            64 if is_small and not is_wide else 128,
            f"{n_items:,} items and {n_events:,} events: 128 above 5,000 items or from 400,000 "
            "events, else 64",
        ),
        "time_gaps": (
            has_times,
            "the log has times, and the time since an event helps to predict the next one"
            if has_times
            else "the log has an order, but no times",
        ),
        "ease": (
            n_items <= MOST_EASE_ITEMS,
            f"{n_items:,} items: up to {MOST_EASE_ITEMS:,} EASE takes minutes and 5 GB of memory",
        ),
        "dropout": (
            0.5 if is_small else 0.2,
            f"{n_events:,} training events: a model overfits a small log sooner",
        ),
        "loss": (
            "sampled-softmax" if is_wide else "softmax",
            f"{n_items:,} items: above 5,000 a sample is as accurate and more than twice as fast",
        ),
        "n_negatives": (
            1024,
            "of sampled-softmax: all events of a batch share the sampled items",
        ),
        "batch_events": (
            batch_events,
            "1 % of the training events, from 50 to 800: more steps in a small log",
        ),
        "epochs": (epochs, f"20; up to 60 where 20 are fewer than {_LEAST_STEPS:,} steps"),
        "patience": (
            10,
            "validation NDCG@10 varies until the learning rate has fallen",
        ),
    }
