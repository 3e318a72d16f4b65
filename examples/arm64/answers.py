"""What model files answer on this processor, beside what they answered where they were made.

    python answers.py tests/data

Prints a JSON line for each file: its golden vectors, and for those with stored answers how many of
200 lists have the same items, the largest difference of a score as a share of the tolerance, and
overlap@10. The exit code is 1 if golden vectors come out differently.
"""

import json
import platform
import sys
from pathlib import Path
from typing import Any

from attnrec.runtime import Recommender, SelfTestError
from attnrec.runtime.model_file.format import score_tolerance


def beside(recommender: Recommender, questions: list[Any], stored: list[Any]) -> dict[str, Any]:
    """Answers now and then."""
    same, largest, overlap = 0, 0.0, 0.0
    for asked, then in zip(questions, stored, strict=True):
        now = recommender.recommend(
            asked["history"],
            exclude=asked["exclude"],
            candidates=asked["candidates"] or None,
            exclude_seen=False,
        )
        same += now.item_ids == then["item_ids"]
        overlap += len({*now.item_ids} & {*then["item_ids"]}) / max(1, len(then["item_ids"]))
        tolerance = score_tolerance(max(map(abs, then["scores"]), default=0))
        for a, b in zip(now.scores, then["scores"], strict=True):
            largest = max(largest, abs(a - b) / tolerance)
    n = len(stored)
    return {
        "lists": n,
        "same_items": same,
        "largest_difference": round(largest, 3),
        "overlap@10": overlap / n,
    }


def main(data: Path) -> int:
    """Ask every file; 1 if one is not itself here."""
    apps = json.loads((data / "apps" / "answers.json").read_text(encoding="utf-8"))
    failed = 0
    for file in sorted(data.glob("*/*.onnx")):
        row: dict[str, Any] = {
            "machine": platform.machine(),
            "file": f"{file.parent.name}/{file.stem}",
        }
        recommender = Recommender.load(file)
        row["profile"] = recommender.info.profile
        try:
            row["golden"] = recommender.selftest()
        except SelfTestError as error:
            failed, row["golden"] = 1, str(error)
        id_type, _, profile = file.stem.partition("-")
        if file.parent.name == "apps":
            stored = apps[id_type]
            row |= beside(recommender, stored["questions"], stored[profile])
        print(json.dumps(row), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
