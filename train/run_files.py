"""Names of what a run directory holds, and of what is beside it while it is made."""

import os
from pathlib import Path

CONFIG_FILE, DATA_FILE, METRICS_FILE = "config.json", "data.json", "metrics.json"
WEIGHTS_FILE, CATALOGUE_FILE = "weights.safetensors", "catalogue.parquet"
EVENTS_FILE, ITEMS_FILE = "interactions.parquet", "items.parquet"
REPORT_FILE = "report.html"
"""What a person looks at, where a report was asked for."""
MODEL_FILE = "model.onnx"
"""Where a run is exported to unless told otherwise."""
CHECKPOINT = ".checkpoint"
"""How the names of checkpoints end."""


def unfinished_directory(run_directory: Path) -> Path:
    """Where the checkpoints of a training into `run_directory` are; a link is followed."""
    whole = Path(os.path.realpath(run_directory))
    return whole.with_name(f"{whole.name}.unfinished")


def checkpoint_files(directory: Path) -> list[Path]:
    """Checkpoints, oldest first; none where there is no such directory."""
    return sorted(directory.glob(f"epoch-*{CHECKPOINT}"))
