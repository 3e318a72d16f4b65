r"""What scans of a trained model find, whatever the size of its catalogue: recall and overlap.

    attnrec-train DIR/amazon-sports/interactions.csv.gz --model sasrec --epochs 5 --threads 1 \
        --out sports
    python benchmarks/scan_recall.py sports

Scans are for catalogues of 100,000 items and more; here they are made for smaller ones, too, so
that real logs can tell. Every test user is asked. `found@10`: of the ten best items by the rounded
vectors, how many the scan has found; overlap@10 and NDCG@10 are beside the exact file.
"""

import argparse
from pathlib import Path

import torch

from attnrec.export.build import FileBuilder, profiles_of
from attnrec.export.exporting import cost_of, gate
from attnrec.export.quantize import item_vectors
from attnrec.train import Run


def rows(run: Run) -> list[str]:
    """A row of the table for each profile."""
    builder = FileBuilder(run)
    exact = builder.of("fp32")
    assert exact.table is not None
    lines = []
    for profile in profiles_of(run)[1:]:
        unproved = builder.of(profile)
        report, cost = gate(unproved, None), cost_of(exact, unproved)
        assert report.found is not None and unproved.table is not None
        change = "-"
        if cost.ndcg_change is not None and cost.ndcg_interval is not None:
            low, high = cost.ndcg_interval
            change = f"{cost.ndcg_change:+.2%} ({low:+.2%} to {high:+.2%})"
        lines.append(
            f"| {profile} | {unproved.table.n_bytes / exact.table.n_bytes:.3f} "
            f"| {report.found.share(10):.5f} | {report.found.share(100):.5f} "
            f"| {cost.overlap_10:.4f} | {change} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    torch.set_num_threads(1)
    item_vectors.SCANNED_FROM = 0
    print("| run | profile | table | found@10 | found@100 | overlap@10 | NDCG@10 |")
    print("|---|---|--:|--:|--:|--:|---|")
    for path in parser.parse_args().runs:
        for line in rows(Run.load(path)):
            print(f"| {path.name} {line}", flush=True)


if __name__ == "__main__":
    main()
