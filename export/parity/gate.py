"""The gate: an exported file answers like the torch model that it came from, or is not written."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.export.item_rules import ItemRules
from attnrec.export.parity.compare_rows import (
    AnsweredRow,
    ExpectedRow,
    RowComparison,
    ScanRecall,
    compare,
    disagreement,
)
from attnrec.export.parity.rule_calls import calls_with_rules
from attnrec.export.parity.rule_reference import RuleReference
from attnrec.export.parity.synthetic_calls import GraphCall, ItemId, every_call
from attnrec.export.parity.user_calls import call_of_users
from attnrec.runtime.arguments import stack
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.facts import ModelInfo
from attnrec.runtime.session import make_session
from attnrec.runtime.side_inputs import CheckedSideInputs
from attnrec.train.evaluation.metrics import Tick
from attnrec.train.evaluation.torch_recommender import TorchRecommender
from attnrec.train.runs.run import Run

_BATCH = 64
_FEW = 10
_MOST_FAULTS = 20
LEAST_FOUND = 0.99
"""Least recall of a scan: the mean share of the 10 best items of test users that it finds."""


@dataclass(frozen=True)
class Fault:
    """A row that breaks the contract."""

    call: str
    """Name of the call of the graph."""
    row: int
    """Row of the call."""
    what: str
    """The clause of the contract that does not hold, with both values."""


@dataclass
class ParityReport:
    """The comparison: how many rows, how near, which faults."""

    n_test_users: int = 0
    """Users whose history was answered by both sides."""
    n_identical: int = 0
    """Of those, users whose top 10 are the same items in the same order."""
    n_synthetic_rows: int = 0
    """Rows of synthetic calls."""
    largest_difference: float = 0.0
    """Largest |score - reference|."""
    largest_share: float = 0.0
    """Largest |score - reference| as a share of what is tolerated in its row."""
    largest_batch_difference: float = 0.0
    """Largest |score alone - score in its batch|."""
    n_faults: int = 0
    """Rows with a fault; 0 in every file that exists."""
    faults: list[Fault] = field(default_factory=list)
    """The first of them."""
    item_table: str = "as trained"
    """The item table of the torch model."""
    found: ScanRecall | None = None
    """Recall of the scan; None: every item has its own score."""
    _last_fault: tuple[str, int] | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The figures that are stored in the file."""
        figures = {
            "reference": "torch training module in eval mode; ids, exclusion, top-k in numpy",
            "item_table": self.item_table,
            "tolerance": "1e-5 x max(1, largest absolute score of the row)",
            "test_users": self.n_test_users,
            "identical_top_10": self.n_identical / max(1, self.n_test_users),
            "made_up_rows": self.n_synthetic_rows,
            "largest_difference": float(f"{self.largest_difference:.3g}"),
            "largest_share_of_tolerance": float(f"{self.largest_share:.3g}"),
            "largest_batch_difference": float(f"{self.largest_batch_difference:.3g}"),
        }
        if self.found is not None:
            figures["scan"] = self.found.to_json()
        return figures

    def add_fault(self, call: str, row: int, what: str) -> None:
        """Note what does not hold; a row with several faults counts once."""
        self.n_faults += (call, row) != self._last_fault
        self._last_fault = (call, row)
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(Fault(call, row, what))


def check_parity(
    file: bytes,
    run: Run,
    tick: Tick | None = None,
    *,
    item_table: NDArray[np.float32] | None = None,
    is_scanned: bool = False,
    rules: ItemRules | None = None,
) -> ParityReport:
    """Give the file and the torch model the same calls: synthetic ones, and every test user.

    The file is run by plain onnxruntime, as any application would. In a final run, which holds
    nothing back, every user counts as a test user. tick: called with (users done, users in all).
    item_table: the table of a quantized file (N + 1, D), for the torch model to compute with.
    is_scanned: a scan chooses what is scored, and may miss items; the report says how many.
    """
    gate = _Gate(file, run, item_table, is_scanned, rules)
    for call in chain(
        every_call(run, gate.id_type), calls_with_rules(run.split.catalogue, gate.id_type, rules)
    ):
        gate.check(call, alone=True)
        gate.report.n_synthetic_rows += len(call.histories)
    held_out = run.split.everybody() if run.split.final else run.split.held_out("test")
    order = sorted(range(len(held_out.histories)), key=lambda user: len(held_out.histories[user]))
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        call = call_of_users(f"test users from {start}", held_out, batch, run)
        # Every 16th batch also one by one: an answer may not depend on its batch.
        gate.report.n_identical += gate.check(call, alone=start % (16 * _BATCH) == 0, found=True)
        gate.report.n_test_users += len(batch)
        if is_scanned:  # a scan keeps fewer candidates for a smaller k
            gate.check(replace(call, k=_FEW), alone=False, found=True)
        if tick is not None:
            tick(start + len(batch), len(order))
    found = gate.report.found
    if found is not None and found.share(_FEW) < LEAST_FOUND:
        what = f"the scan finds {found.share(_FEW):.4f} of their {_FEW} best items"
        gate.report.add_fault("test users", 0, f"{what}, below the limit {LEAST_FOUND}")
    return gate.report


class _Gate:
    """Compares a file with the torch model on the same calls."""

    def __init__(
        self,
        file: bytes,
        run: Run,
        item_table: NDArray[np.float32] | None,
        is_scanned: bool,
        rules: ItemRules | None,
    ) -> None:
        self._session = make_session(file)
        self._outputs = [value.name for value in self._session.get_outputs()]
        self._catalogue = run.split.catalogue
        metadata = self._session.get_modelmeta().custom_metadata_map
        self._info = ModelInfo.from_metadata(metadata)
        self._reference = TorchRecommender(run.model, self._catalogue, item_table, run.split.users)
        self._rules = None if rules is None else RuleReference(rules, self._catalogue.n_items)
        self.id_type = self._catalogue.id_type
        self.report = ParityReport(found=ScanRecall() if is_scanned else None)
        if item_table is not None:
            self.report.item_table = "quantized"

    def check(self, call: GraphCall, *, alone: bool, found: bool = False) -> int:
        """Compare every row of a call; returns how many have the same top 10.

        alone: run each row by itself as well. found: count the recall of a scan.
        """
        answers = self._run(call)
        if not answers:
            return 0
        expected = self._expected(call)
        same = 0
        for row, (answer, own) in enumerate(zip(answers, expected, strict=True)):
            comparison = compare(answer, own)
            if comparison.fault is not None:
                self.report.add_fault(call.name, row, comparison.fault)
            self._note(comparison)
            if found and self.report.found is not None:
                self.report.found.add(call.k, comparison.found)
            same += comparison.same_top_10
            if alone and len(answers) > 1:
                self._check_alone(call, row, answer)
        return same

    def _note(self, comparison: RowComparison) -> None:
        report, difference = self.report, comparison.difference
        report.largest_difference = max(report.largest_difference, difference)
        report.largest_share = max(report.largest_share, difference / comparison.tolerance)

    def _check_alone(self, call: GraphCall, row: int, together: AnsweredRow) -> None:
        if call.candidates and not call.candidates[row]:
            return  # alone it would be answered from the whole catalogue
        report = self.report
        for answer in self._run(call.only(row), row):
            difference, too_far = disagreement(answer, together)
            report.largest_batch_difference = max(report.largest_batch_difference, difference)
            if too_far:
                report.add_fault(call.name, row, f"alone its scores differ by {difference:.3g}")

    def _run(self, call: GraphCall, row: int = 0) -> list[AnsweredRow]:
        """One answer a row; none, and a fault at `row`, where the file cannot answer at all."""
        n_rows = len(call.histories)
        none: list[list[ItemId]] = [[]] * n_rows
        lengths, rules = [*map(len, call.histories)], call.rules or None
        given = CheckedSideInputs(self._info, call.side_inputs(), lengths, rules)
        feed = {
            names.HISTORY: self._array(call.histories),
            names.EXCLUDE: self._array(call.exclude or none),
            names.CANDIDATES: self._array(call.candidates or none),
            names.K: np.array([call.k], dtype=np.int64),
            **given.inputs(range(n_rows)),
        }
        try:
            found = dict(zip(self._outputs, self._session.run(None, feed), strict=True))
        except Exception as error:  # onnxruntime has no common base class for its errors
            self.report.add_fault(call.name, row, f"the file cannot answer: {error}")
            return []
        rows = {name: len(value) for name, value in found.items()}
        if {*rows.values()} != {n_rows}:
            what = f"rows of the answers to {n_rows} histories: {rows}"
            self.report.add_fault(call.name, row, what)
            return []
        more = (names.TITLES, names.ATTENTION, names.N_ALLOWED)
        titles, attention, n_allowed = map(found.get, more)
        return [
            AnsweredRow(
                self._rows(items, None if titles is None else titles[row]),
                found[names.SCORES][row],
                int(found[names.N_KNOWN][row]),
                None if attention is None else attention[row],
                None if n_allowed is None else int(n_allowed[row]),
            )
            for row, items in enumerate(found[names.ITEMS])
        ]

    def _array(self, rows: Sequence[Sequence[ItemId]]) -> NDArray[Any]:
        # Not `id_row`: the limit of the library does not hold for the graph.
        dtype = np.int64 if self.id_type == "int64" else object
        arrays = [np.array(row, dtype=dtype) for row in rows]
        return stack(arrays, self.id_type, names.PADDING[self.id_type])

    def _rows(self, items: NDArray[Any], titles: NDArray[Any] | None) -> NDArray[np.int64]:
        """Rows of the returned ids; -1 for what is no item, or goes by another item's title."""
        padding = names.PADDING[self.id_type]
        rows = np.array(
            [0 if item == padding else self._reference.row(item) for item in items.tolist()],
            dtype=np.int64,
        )
        if titles is not None and self._catalogue.titles is not None:
            named = np.concatenate([[""], self._catalogue.titles])[rows]
            rows[named != titles] = -1
        return rows

    def _expected(self, call: GraphCall) -> list[ExpectedRow]:
        given = call.histories, call.side_inputs()
        scores, attention = self._reference.scores(*given), self._reference.attention(*given)
        n_items = self._catalogue.n_items
        rows_expected = []
        for row, history in enumerate(call.histories):
            candidates = self._reference.rows(call.candidates[row]) if call.candidates else None
            exclude = self._reference.rows(call.exclude[row] if call.exclude else [])
            admissible = self._reference.admissible(exclude, candidates)
            own = scores[row]
            if self._rules is not None and call.rules:
                own = own + self._rules.boosts(call.rules[row])
                admissible &= self._rules.allowed(call.rules[row])
            largest = float(np.abs(own[1:]).max())
            rows_expected.append(
                ExpectedRow(
                    scores=own,
                    admissible=admissible,
                    n_known=len(self._reference.rows(history)),
                    k=min(max(call.k, 0), n_items),
                    tolerance=names.score_tolerance(largest),
                    may_miss=self.report.found is not None,
                    attention=None if attention is None else attention[row],
                    n_allowed=None if self._rules is None else int(admissible.sum()),
                )
            )
        return rows_expected
