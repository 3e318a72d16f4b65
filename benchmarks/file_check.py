"""What it costs to check a file before onnxruntime sees it: made-up files, or given ones.

    python benchmarks/file_check.py [attnrec-run/model.onnx ...]

Made-up files are enlarged from files of the tests; they can be checked, not run. Best of
`--repeat`.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.reading import read_model_file

_TINY = Path(__file__).parents[1] / "tests" / "data" / "format-1"
_MADE_UP = (  # file of the tests, items, numbers of a vector, what the check may take in ms
    ("tiny-string", 4_000, 32, 10),
    ("tiny-string", 500_000, 48, 500),
    ("tiny-int64", 1_000_000, 32, 500),
)


def enlarged(tiny: Path, n_items: int, width: int) -> bytes:
    """The file with a catalogue of `n_items` made-up ids and vectors of `width` numbers."""
    model = onnx.load(tiny)
    rows = n_items + 1
    text = tiny.stem == "tiny-string"
    ids = [f"sku-{n:07}" for n in range(n_items)] if text else list(range(n_items))
    by_item = {
        "item_table": np.zeros((rows, width), np.float32),
        "no_item": np.zeros(rows, np.float32),
        "item_ids": np.array(["", *ids], object) if text else np.array([-1, *ids]),
        "item_titles": np.array([f"The title of item {n}" for n in range(rows)], object),
    }
    for tensor in model.graph.initializer:
        if tensor.name in by_item:
            tensor.CopyFrom(numpy_helper.from_array(by_item[tensor.name], tensor.name))
    encoder = next(node for node in model.graph.node if node.op_type == "LabelEncoder")
    for attribute in encoder.attribute:
        if attribute.name == "keys_strings":
            attribute.strings[:] = [str(item_id).encode() for item_id in ids]
        elif attribute.name in ("keys_int64s", "values_int64s"):
            attribute.ints[:] = ids if attribute.name == "keys_int64s" else range(1, rows)
    for entry in model.metadata_props:
        if entry.key == names.MODEL_KEY:
            entry.value = json.dumps(json.loads(entry.value) | {"n_items": n_items})
    del model.metadata_props[-1]  # the seal
    return names.seal(model.SerializeToString(deterministic=True))


def milliseconds(path: Path, repeat: int) -> tuple[float, float, float]:
    """The best of reading without verification, comparing the seal, checking the graph."""
    content = path.read_bytes()
    times: list[tuple[float, float, float]] = []
    for _ in range(repeat):
        start = time.perf_counter()
        read_model_file(path, verify=False)
        read = time.perf_counter()
        names.seal_is_intact(content)
        sealed = time.perf_counter()
        read_model_file(path, verify=True)
        done = time.perf_counter()
        times.append((read - start, sealed - read, done - sealed))
    plain, seal, whole = (min(column) * 1e3 for column in zip(*times, strict=True))
    return plain, seal, whole - seal - plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--repeat", type=int, default=9)
    arguments = parser.parse_args()
    print("   MB    read    seal   check ms   file")
    for path in arguments.files:
        show(path, arguments.repeat, path.name)
    if arguments.files:
        return
    with tempfile.TemporaryDirectory() as directory:
        for tiny, n_items, width, target in _MADE_UP:
            path = Path(directory) / "model.onnx"
            path.write_bytes(enlarged(_TINY / f"{tiny}.onnx", n_items, width))
            show(path, arguments.repeat, f"{tiny}, {n_items:,} items   target <= {target}")


def show(path: Path, repeat: int, label: str) -> None:
    """One line of the table."""
    read, seal, check = milliseconds(path, repeat)
    print(f"{path.stat().st_size / 1e6:5.1f} {read:7.1f} {seal:7.1f} {check:10.1f}   {label}")


if __name__ == "__main__":
    main()
