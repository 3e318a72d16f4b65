"""An environment for each peer, made with pip; exits 1 where that fails.

    python benchmarks/peers/venvs.py [--venvs build/peers]

About 4 GB and ten minutes, once. That of attnrec is a device install of this working copy, new
every time; torch is of the Python that runs this.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
VENVS = ROOT / "build" / "peers"
_TORCH, _DEVICE = "torch==2.13.0", ("numpy==2.4.6", "onnxruntime==1.32.0")
_NEEDS = {
    "rectools": ("rectools[torch]==0.19.0", _TORCH),
    # Its extra does not bring what compiling needs.
    "replay": (
        *("replay-rec[torch]==0.22.0", _TORCH),
        *("openvino==2026.4.1", "onnx==1.23.2", "onnxscript==0.7.2"),
    ),
    "onnxruntime": _DEVICE,
    "faiss": ("faiss-cpu==1.15.1", "numpy==2.4.6"),
    "attnrec": _DEVICE,
}
_SOURCES = ("runtime", "train", "export", "cli", "package")


def python_of(name: str, venvs: Path = VENVS) -> str:
    """The Python of a peer, whose environment is made if it is not there; `here`: this one."""
    if name == "here":
        return sys.executable
    folder = venvs / name
    python, done = folder / "bin" / "python", folder / "installed.txt"
    needs = "\n".join(_NEEDS[name])
    if not done.exists() or done.read_text() != needs:
        print(f"{folder}: installing {', '.join(_NEEDS[name])}", file=sys.stderr, flush=True)
        _run(f"{name} cannot be installed", sys.executable, "-m", "venv", "--clear", str(folder))
        _install(name, python, *_NEEDS[name])
        done.write_text(needs)
    if name == "attnrec":
        _install_this(python)
    return str(python)


def _install_this(python: Path) -> None:
    """The working copy as it is now, from a copy: pip builds where the sources are."""
    with tempfile.TemporaryDirectory() as copy:
        for name in _SOURCES:
            shutil.copytree(ROOT / name, Path(copy) / name)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, copy)
        _install("attnrec", python, "--no-deps", "--force-reinstall", copy)


def _install(name: str, python: Path, *what: str) -> None:
    quiet = ("--quiet", "--disable-pip-version-check")
    _run(f"{name} cannot be installed", str(python), "-m", "pip", "install", *quiet, *what)


def _run(trouble: str, *command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{trouble}: {' '.join(command)}\n{result.stderr[-2000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venvs", type=Path, default=VENVS)
    parser.add_argument("names", nargs="*", default=list(_NEEDS), help="by default all")
    arguments = parser.parse_args()
    for name in arguments.names:
        print(python_of(name, arguments.venvs))


if __name__ == "__main__":
    main()
