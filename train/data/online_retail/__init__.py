"""The data set that comes with attnrec, so that every example runs without a download."""

from importlib.resources import files
from pathlib import Path


def online_retail() -> tuple[Path, Path]:
    """Paths of the UCI Online Retail log and of its items table with titles.

    Columns: user_id, item_id, timestamp (unix seconds); item_id, title, price. Licence and
    origin are in ATTRIBUTION.md beside them.
    """
    folder = Path(str(files("attnrec.train.data.online_retail")))
    return folder / "online-retail.parquet", folder / "online-retail-items.parquet"
