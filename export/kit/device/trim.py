"""Deletes from installed numpy and onnxruntime what answering does not need.

python trim.py          in the virtual environment that runs this
python trim.py FOLDER   in a folder that `pip install --target FOLDER` filled
"""

import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

# The Python module of onnxruntime has the whole engine inside. libonnxruntime is the same
# engine once more, for programs in C.
UNNEEDED = [
    "onnxruntime/capi/libonnxruntime.so*",
    "onnxruntime/transformers",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/datasets",
    "onnxruntime/backend",
    "onnxruntime/Privacy.md",
    "numpy/**/tests",
    "numpy/**/*.pyi",
    "numpy/**/*.a",
    "numpy/f2py",
    "numpy/distutils",
    "numpy/_core/include",
    "numpy/_core/_*_tests*.so",
    "numpy/_core/_simd*.so",
    "numpy/_pyinstaller",
    "bin/f2py",
    "bin/numpy-config",
    "bin/onnxruntime_test",
    "**/__pycache__",
]


def files(folder: Path) -> Iterator[Path]:
    """All files below."""
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def megabytes(folder: Path) -> float:
    """What the files below take, in 10^6 bytes."""
    return sum(path.stat().st_size for path in files(folder)) / 1e6


def main() -> None:
    """Trim, and print the size before and after."""
    if len(sys.argv) == 1 and sys.prefix == sys.base_prefix:
        sys.exit("error: this is the Python of the system; run the one of venv/, or name a folder")
    named = sys.argv[1] if len(sys.argv) > 1 else sysconfig.get_path("purelib")
    folder = Path(named)
    if not all((folder / name / "__init__.py").is_file() for name in ("numpy", "onnxruntime")):
        sys.exit(f"error: {folder} does not hold numpy and onnxruntime")
    before = megabytes(folder)
    for pattern in UNNEEDED:
        for path in list(folder.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    print(f"{folder}: {before:.0f} MB before, {megabytes(folder):.0f} MB now")


if __name__ == "__main__":
    main()
