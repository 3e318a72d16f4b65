"""What several documents are tried on."""

from pathlib import Path

import pytest
from documents import run_shell


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the default model was trained on the embedded log, small and briefly."""
    folder = tmp_path_factory.mktemp("shop")
    small = "--epochs 1 --hidden-dim 16 --n-blocks 1 --max-len 20 --threads 1 --no-report"
    run_shell(f"attnrec-train {small} && attnrec-export", folder)
    (folder / "model.onnx").write_bytes((folder / "attnrec-run" / "model.onnx").read_bytes())
    return folder
