"""Pick two customers of a run and write what they bought as JSON lines, for examples/shop.py."""

import argparse
import json

import numpy as np

from attnrec.train import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="run directory from attnrec-train")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other customers")
    arguments = parser.parse_args()
    held_out = Run.load(arguments.run).split.held_out("test")
    moderate = [i for i, h in enumerate(held_out.histories) if 5 <= len(h) <= 100]
    for i in np.random.default_rng(arguments.seed).choice(moderate, size=2, replace=False):
        customer = {
            "history": held_out.histories[i].tolist(),
            "bought_next": held_out.between(i, i + 1).targets.tolist()[0],
        }
        print(json.dumps(customer))


if __name__ == "__main__":
    main()
