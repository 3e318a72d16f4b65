"""Errors of an export, each with its figures. Nothing was written when one is raised."""

from collections.abc import Sequence

from attnrec.export.parity.gate import ParityReport
from attnrec.export.quantize.cost import ProfileCost, QuantizationCost
from attnrec.runtime.errors import ParityError


class ParityFailure(ParityError):
    """The gate found faults; `report` names them."""

    def __init__(self, report: ParityReport) -> None:
        super().__init__(
            f"the exported graph does not answer like the torch model: {report.n_faults} of "
            f"{report.n_test_users + report.n_synthetic_rows} rows; nothing was written"
        )
        self.report = report


class QuantizationCostTooHigh(ParityError):
    """A smaller file would recommend too differently; `cost` holds the figures."""

    def __init__(self, profile: str, cost: QuantizationCost, reason: str) -> None:
        super().__init__(
            f"{profile} changes the answers too much: {reason}, measured on {cost.n_users:,} "
            "users; nothing was written. Export fp32, or allow more"
        )
        self.cost = cost


class NoProfile(ParityError):
    """Every profile exceeds a limit; `costs` holds the figures."""

    def __init__(self, costs: Sequence[ProfileCost]) -> None:
        reasons = "; ".join(f"{cost.profile}: {cost.beyond}" for cost in costs if cost.beyond)
        super().__init__(f"no profile keeps the limits, nothing was written. {reasons}")
        self.costs = list(costs)
