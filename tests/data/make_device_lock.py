"""The lock of a device kit: the tested numpy and onnxruntime, with the sha256 of their wheels.

    python tests/data/make_device_lock.py > export/kit/device/requirements.lock

Asks pip, which reads the index but downloads no wheel. To be run again when constraints.txt
changes one of the two.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("numpy", "onnxruntime")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
HEADER = f"""\
# All that a device needs to install, at the versions that the model file was proved with:
#     pip install --no-deps -r requirements.lock
# What else onnxruntime names as its dependencies is not imported to answer.
# Wheels for Python {PYTHONS[0]} to {PYTHONS[-1]}, Linux on x86_64 and aarch64, glibc 2.28."""


def sha256_of_wheel(pin: str, python: str, machine: str) -> str:
    """Of the wheel that pip would install there."""
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed",
        "--no-deps", "--only-binary=:all:", "--target", "nowhere", "--report", "-",
        "--python-version", python, "--platform", f"manylinux_2_28_{machine}", pin,
    ]  # fmt: skip
    report = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (package,) = json.loads(report)["install"]
    return str(package["download_info"]["archive_info"]["hashes"]["sha256"])


def main() -> None:
    print(HEADER)
    constraints = (ROOT / "constraints.txt").read_text()
    for name in PACKAGES:
        (pin,) = re.findall(f"^{name}==.*", constraints, re.MULTILINE)
        found = [sha256_of_wheel(pin, p, m) for m in MACHINES for p in PYTHONS]
        print(" \\\n    ".join([pin, *(f"--hash=sha256:{sha}" for sha in found)]))


if __name__ == "__main__":
    main()
