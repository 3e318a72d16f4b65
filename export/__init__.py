"""Export: from a run directory to one ONNX file. Needs the extra `attnrec[export]`."""

from typing import TYPE_CHECKING

from attnrec.runtime import on_first_use

if TYPE_CHECKING:
    from attnrec.export.errors import NoProfile, ParityFailure, QuantizationCostTooHigh
    from attnrec.export.exporting import export, export_smallest
    from attnrec.export.folds import FoldComparison, compare_folds
    from attnrec.export.parity.gate import Fault, ParityReport
    from attnrec.export.quantize.cost import ProfileCost, QuantizationCost
    from attnrec.export.refusals import Limits
else:
    # The module is not `export.py`: importing it would hide the function `export` of this package.
    __getattr__ = on_first_use(
        __name__,
        {
            "errors": ["NoProfile", "ParityFailure", "QuantizationCostTooHigh"],
            "exporting": ["export", "export_smallest"],
            "folds": ["FoldComparison", "compare_folds"],
            "parity.gate": ["Fault", "ParityReport"],
            "quantize.cost": ["ProfileCost", "QuantizationCost"],
            "refusals": ["Limits"],
        },
    )

__all__ = [
    "Fault",
    "FoldComparison",
    "Limits",
    "NoProfile",
    "ParityFailure",
    "ParityReport",
    "ProfileCost",
    "QuantizationCost",
    "QuantizationCostTooHigh",
    "compare_folds",
    "export",
    "export_smallest",
]
