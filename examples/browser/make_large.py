"""Synthetic files of 100,000 products, one a profile: python examples/browser/make_large.py DIR

Those of benchmarks/scale.py: an untrained `sasrec` of width 128, for times, not for taste.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from scale import any_run, of_size

from attnrec.export.build import FileBuilder


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        drafts = FileBuilder(of_size(any_run(Path(scratch)), 100_000, 128, "int64"))
        for profile in ("fp32", "int8", "int4+4", "int4"):
            (folder / f"{profile}.onnx").write_bytes(drafts.of(profile).file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
