"""`load_interactions` under the name that scripts know; it is in `data.load`."""

from attnrec.train.data.load import load_interactions

__all__ = ["load_interactions"]
