"""From a run directory to one sealed file that has proved itself."""

import logging
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from attnrec.export.body import export_body
from attnrec.export.contract import assemble, check_catalogue
from attnrec.export.describe import describe, golden_vectors
from attnrec.export.parity import ParityReport, Tick, check_parity
from attnrec.runtime import format as names
from attnrec.runtime.errors import ParityError
from attnrec.runtime.files import replace_file
from attnrec.runtime.model_info import ModelInfo
from attnrec.runtime.recommender import Recommender
from attnrec.runtime.session import make_session
from attnrec.train.evaluation import evaluate_answers
from attnrec.train.models.protocol import TableModel
from attnrec.train.run import Run

logger = logging.getLogger(__name__)

PROFILES = ("fp32",)
_LARGEST_FILE = 10**9


class ParityFailure(ParityError):
    """The gate found faults; `report` says where. Nothing was written."""

    def __init__(self, report: ParityReport) -> None:
        super().__init__(
            f"the exported graph does not answer like the torch model: {report.n_faults} of "
            f"{report.n_test_users + report.n_made_up_rows} rows; nothing was written"
        )
        self.report = report


def export(
    run: Run, path: str | Path, profile: str = "fp32", *, tick: Tick | None = None
) -> ParityReport:
    """Write `run` as one self-contained file and return how it compares with the torch model.

    Raises `ParityFailure` where the file does not answer like the model, `ValueError` for a
    profile or a catalogue that cannot be exported; then nothing is written and an earlier file
    at `path` stays. The same run gives the same bytes.
    """
    if profile not in PROFILES:
        raise ValueError(f"no profile {profile!r}; there are: {', '.join(PROFILES)}")
    graph = build_graph(run)
    metrics = dict(run.metrics)
    metrics.pop("epochs", None)
    draft = _finish(graph, describe(run, metrics, None, profile))
    report = check_parity(draft, run, tick)
    if report.n_faults:
        raise ParityFailure(report)
    if not run.split.final:
        metrics["test"] = _test_metrics(draft, run)
    info = describe(run, metrics, report.to_json(), profile)
    file = _finish(graph, info, golden=golden_vectors(draft, run))
    with replace_file(path) as temporary:
        temporary.write_bytes(file)
        # The last word belongs to the file as it lies on the disk.
        Recommender.load(temporary).selftest()
    logger.info("wrote %s, %.2f MB", path, len(file) / 1e6)
    return report


def build_graph(run: Run) -> bytes:
    """The self-contained graph without any facts, as the bytes of an ONNX model."""
    catalogue = run.split.catalogue
    check_catalogue(catalogue)
    table = _item_table(run)
    for name, weight in run.model.state_dict().items():
        if not weight.isfinite().all():
            raise ValueError(
                f"weight {name} of {run.directory} holds NaN or infinity; train again"
            )
    size = 0 if table is None else table.nbytes
    if size > _LARGEST_FILE:
        raise ValueError(
            f"the item table takes {size / 1e9:.1f} GB, above the limit of 1 GB for one file; "
            "train with a smaller --hidden-dim or a higher --min-item-events"
        )
    model = assemble(export_body(run.model), table, catalogue, run.model.config.max_len)
    serialized: bytes = ir.serde.serialize_model(model).SerializeToString(deterministic=True)
    return serialized


def _item_table(run: Run) -> NDArray[np.float32] | None:
    if not isinstance(run.model, TableModel):
        return None
    table: NDArray[np.float32] = run.model.item_table().detach().numpy()
    return np.ascontiguousarray(table)


def _finish(graph: bytes, info: ModelInfo, golden: str | None = None) -> bytes:
    """Append facts and seal; the bytes of the graph stay those that the gate has passed."""
    entries = info.to_metadata()
    if golden is not None:
        entries[names.GOLDEN_KEY] = golden
    facts = b"".join(names.metadata_entry(key, value) for key, value in entries.items())
    return names.seal(graph + facts)


def _test_metrics(file: bytes, run: Run) -> dict[str, object]:
    """What is measured is what is shipped: the file, through the runtime."""
    metrics = evaluate_answers(
        Recommender.from_session(make_session(file)),
        run.split.held_out("test"),
        run.split.catalogue.item_ids,
        exclude_seen=not run.recipe.repeats,
    )
    return metrics.to_json()
