"""What the processes beside rank 0 do; see `distributed`."""

import logging
import os
import signal
import threading
from collections.abc import Callable

import torch

from attnrec.train.data.batches import Batches
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.fitting.distributed import Share, TrainingOver, joined, next_training
from attnrec.train.fitting.loop import train_epoch
from attnrec.train.fitting.state import TrainingState


def train_together(lead: Callable[[], None]) -> None:
    """Call `lead` in rank 0, or where there is one process; the others help, and return after it.

    Under torchrun every process calls this, and whatever `lead` trains is trained by all. Errors
    are raised once: by rank 0, or by the first process of a machine where none could begin. The
    others exit with code 1, without a word.
    """
    try:
        with joined() as rank:
            if rank == 0:
                lead()
            else:
                follow()
    except (ConnectionError, ValueError):
        if os.environ.get("LOCAL_RANK", "0") == "0":
            raise
        raise SystemExit(1) from None


def follow() -> None:
    """Take part in every training of rank 0, until there are no more."""
    logging.getLogger("attnrec").setLevel(logging.CRITICAL)  # it says the same
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C reaches every process; what follows from it is for rank 0 to say.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    while (training := next_training()) is not None:
        follow_training(*training)


def follow_training(state: TrainingState, batches: Batches, config: TrainConfig) -> None:
    """Epoch by epoch, until rank 0 has enough; it alone knows when that is."""
    share = Share(state, config)
    try:
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        state.to(share.device)
        while True:
            train_epoch(state, batches, config, share.descend)
            state.end_epoch(None)
    except TrainingOver:
        return
    except ConnectionError:
        raise
    except Exception as error:
        share.fail(error)
