"""The catalogues that are asked for, and the files of attnrec for them.

All weights are random, for time and memory alone. Vectors of items are those of `scale.py`;
neighbours of `fusion` are made up as well, as many as a real log gives.
"""

import io
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from attnrec.export.build import FileBuilder
from attnrec.train.models.counted_experts import CountedExperts
from attnrec.train.models.fusion import Fusion
from attnrec.train.models.fusion_config import MOST_EASE_ITEMS, FusionConfig
from attnrec.train.models.sasrec_recency import RecencySASRec
from attnrec.train.runs.run import Run

sys.path.append(str(Path(__file__).parents[1]))
from scale import of_size

N_HISTORIES, HISTORY = 256, 50
_NARROW = 5000


@dataclass(frozen=True)
class Setting:
    """A catalogue and the shape of every model over it."""

    name: str
    """Of its folder, and on the command line."""
    n_items: int
    max_len: int
    hidden_dim: int
    n_blocks: int = 2
    n_heads: int = 2

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.n_items:,} items, length {self.max_len}, width {self.hidden_dim}"


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("3k", 3416, 100, 64),  # MovieLens-1M
        Setting("12k", 12_101, 50, 64),  # Amazon Beauty
        Setting("100k", 100_000, 50, 64),
        Setting("100k-wide", 100_000, 50, 128),
    )
}


def sasrec_run(small: Run, setting: Setting) -> Run:
    """`sasrec` in that shape over that catalogue, with int64 ids; small: any run."""
    run = of_size(small, setting.n_items, setting.hidden_dim, "int64")
    shape = {"max_len": setting.max_len, "n_blocks": setting.n_blocks, "n_heads": setting.n_heads}
    torch.manual_seed(0)
    model = RecencySASRec(replace(run.model.config, **shape)).eval()
    model.item_embedding.load_state_dict(run.model.item_embedding.state_dict())
    return replace(run, model=model)


def fusion_run(run: Run) -> Run:
    """The default model, which counts neighbours and looks at the clock, in the shape of a run.

    Blocks and neighbours are those that it takes for such a log: a narrow one has one block.
    """
    shape = asdict(run.model.config)
    shape |= {"decayed_history": True, "time_gaps": True}
    if shape["n_items"] <= _NARROW:
        shape |= {"n_blocks": 1, "n_neighbours": 48}
    shape |= {"count_weight": 1.0, "ease_weight": 0.5}
    config = FusionConfig(**shape, ease=shape["n_items"] <= MOST_EASE_ITEMS)
    torch.manual_seed(0)
    model = Fusion(config).eval()
    make_up(model.counts)
    return replace(run, model=model, config=replace(run.config, model="fusion"))


def make_up(counts: CountedExperts) -> None:
    """Neighbours without a log, in as many chunks as those of a real one would take."""
    n_rows, most = counts.chunks.shape
    of_item = counts.config.n_neighbours / counts.neighbour.shape[1]
    own = torch.empty(n_rows).geometric_(1 / of_item).clamp(max=most)
    used = torch.arange(most) < own[:, None]
    used[0] = False
    n_chunks = 1 + int(used.sum())
    counts.chunks[used] = torch.arange(1, n_chunks, dtype=torch.int32)
    counts.neighbour = torch.randint(1, n_rows, (n_chunks, 8), dtype=torch.int32)
    counts.weight = torch.rand(len(counts.weight), n_chunks, 8)


def prepare(run: Run, setting: Setting, folder: Path, files: Iterable[str]) -> bool:
    """Write what all processes read, and files of attnrec: `sasrec-int8`, say.

    Returns whether it was the same catalogue before, so that what peers made of it is, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ids = run.split.catalogue.item_ids
    rng = np.random.default_rng(0)
    rows = [rng.choice(len(ids), HISTORY, replace=False) for _ in range(N_HISTORIES)]
    shared = {"ids.npy": _bytes(ids), "histories.npy": _bytes(ids[np.stack(rows)])}
    shared["setting.json"] = json.dumps(asdict(setting)).encode()
    is_old = all((folder / name).exists() for name in shared) and all(
        (folder / name).read_bytes() == content for name, content in shared.items()
    )
    for name, content in shared.items():
        (folder / name).write_bytes(content)
    drafts = {"sasrec": FileBuilder(run)}
    for name in files:
        model, _, profile = name.partition("-")
        if model not in drafts:
            drafts[model] = FileBuilder(fusion_run(run))
        (folder / f"{name}.onnx").write_bytes(drafts[model].of(profile).file)
    return is_old


def _bytes(array: np.ndarray) -> bytes:
    """As `np.save` writes it."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
