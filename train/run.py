"""`Run` under the name that scripts know; it is in `runs.run`."""

from attnrec.train.runs.run import Run

__all__ = ["Run"]
