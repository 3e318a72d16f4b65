"""A device kit: a folder with everything that a device needs to answer, except two wheels."""

import json
import math
import os
import secrets
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path
from string import Template

import numpy as np
import onnxruntime

from attnrec import runtime
from attnrec.export.refusals import check_kit_folder
from attnrec.runtime import Recommender
from attnrec.runtime.files import naming_full_disk, sync_directory, sync_file

_TEMPLATES = Path(__file__).with_name("device")
_LOCK = "requirements.lock"
_WITHOUT_HASHES = """\
# The versions that the model file was proved with. attnrec was tested with others, so there are no
# hashes here: `pip download --no-deps -r` this file, and `pip hash` prints them.
"""
_N_EXAMPLES = 2  # ids in the request of the README
_HEADROOM = 1.5  # of memory: another processor, other threads, longer lists
_ANSWER = """
import sys
from attnrec.runtime import Recommender
from attnrec.runtime.memory import resident_mb
recommender = Recommender.load(sys.argv[1])
recommender.recommend(recommender.recommend([], 50, exclude_seen=False).item_ids)
print(resident_mb())
"""


def write_kit(file: Path, folder: Path) -> None:
    """Write a folder for a device that has Python, but not attnrec.

    It holds the model file, attnrec's runtime as source, a lock of numpy and onnxruntime, an app,
    a check, a script that trims the two, systemd units and a README. All or nothing: `ValueError`
    if `folder` is not empty, `ModelFileError` if the file cannot be loaded.
    """
    check_kit_folder(folder)
    folder = Path(os.path.realpath(folder))
    facts = _facts(file)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{secrets.token_hex(4)}.{folder.name}")
    try:
        with naming_full_disk(folder):
            temporary.mkdir()
            shutil.copyfile(file, temporary / "model.onnx")
            _copy_runtime(temporary / "attnrec" / "runtime")
            for template in _TEMPLATES.iterdir():
                if template.suffix != ".pyc" and template.is_file():
                    text = template.read_text(encoding="utf-8")
                    if template.suffix in (".md", ".service"):
                        text = Template(text).substitute(facts)
                    (temporary / template.name).write_text(text, encoding="utf-8")
            lock = lock_of(numpy=np.__version__, onnxruntime=onnxruntime.__version__)
            (temporary / _LOCK).write_text(lock, encoding="utf-8")
            (temporary / "LICENSE").write_text(_license(), encoding="utf-8")
            for written in temporary.rglob("*"):
                if written.is_file():
                    sync_file(written)
            if folder.exists():
                folder.rmdir()  # it is empty; Windows would not rename to its name
            os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_directory(folder.parent)


def _copy_runtime(target: Path) -> None:
    """The modules of attnrec.runtime; not the HTTP server, which wants more packages."""
    source = Path(runtime.__file__).parent
    for folder in (source, source / "model_file"):
        copy = target / folder.relative_to(source)
        copy.mkdir(parents=True)
        for module in folder.iterdir():
            if module.suffix == ".py" or module.name == "py.typed":
                shutil.copyfile(module, copy / module.name)


def lock_of(**running: str) -> str:
    """The requirements of a device: packages in the versions that the file was proved with.

    The sha256 of wheels is not part of an installation, and an export opens no connection: hashes
    are written for the versions that attnrec is tested with, for others only the versions.
    """
    known = (_TEMPLATES / _LOCK).read_text(encoding="utf-8")
    pins = [f"{name}=={version}" for name, version in running.items()]
    if set(pins) <= set(known.split()):
        return known
    return _WITHOUT_HASHES + "".join(f"{pin}\n" for pin in pins)


def _license() -> str:
    """The kit is a copy of attnrec, and its license goes with each."""
    # A checkout may have metadata without it beside that of the installation.
    for installed in distributions(name="attnrec"):
        if text := installed.read_text("licenses/LICENSE"):
            return text
    raise ValueError("the installed attnrec has no LICENSE; install it again with pip")


def _facts(file: Path) -> dict[str, str]:
    """The figures of the file in the README and the unit."""
    recommender = Recommender.load(file)
    info = recommender.info
    popular = recommender.recommend([], 50, exclude_seen=False).item_ids
    file_mb = file.stat().st_size / 1e6
    memory_mb = _memory_mb(file) or 100 + 2 * file_mb  # unknown on Windows
    question = json.dumps({"history": popular[:_N_EXAMPLES], "k": 3})
    return {
        "model": info.model,
        "profile": info.profile,
        "n_items": f"{info.n_items:,}",
        "file_mb": f"{file_mb:.2f}",
        "memory_mb": f"{memory_mb:.0f}",
        "memory_max": f"{10 * math.ceil(_HEADROOM * memory_mb / 10)}",
        "question": shlex.quote(question),
        "attnrec": runtime.__version__,
    }


def _memory_mb(file: Path) -> float | None:
    """Resident MB (2^20 bytes) of a fresh process after an answer; None: unknown."""
    command = [sys.executable, "-P", "-c", _ANSWER, str(file)]
    printed = subprocess.run(command, capture_output=True, text=True).stdout
    with suppress(ValueError):
        return float(printed)
    return None
