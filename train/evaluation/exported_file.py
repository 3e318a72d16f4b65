"""The model file that a person means who names a file or the run directory around it."""

from pathlib import Path

from attnrec.runtime.errors import RunError
from attnrec.train.run_files import MODEL_FILE


def exported_file(path: str | Path) -> str | Path:
    """`path`, or the model file in it where it is a directory; `RunError` if there is none."""
    if not Path(path).is_dir():
        return path
    file = Path(path) / MODEL_FILE
    if not file.is_file():
        raise RunError(
            f"{path} is a directory without {MODEL_FILE}; export the run first "
            f"(attnrec-export {path}), or name a model file"
        )
    return file
