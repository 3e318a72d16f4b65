"""Export: from a run directory to one ONNX file. Needs the extra `attnrec[export]`."""

from typing import TYPE_CHECKING

from attnrec.runtime import on_first_use

if TYPE_CHECKING:
    from attnrec.export.exporting import ParityFailure, QuantizationCostTooHigh, export
    from attnrec.export.limits import Limits
    from attnrec.export.parity.gate import Fault, ParityReport
    from attnrec.export.profiles import NoProfile, export_smallest
    from attnrec.export.quantize.cost import ProfileCost, QuantizationCost
else:
    __getattr__ = on_first_use(
        __name__,
        {
            "exporting": ["ParityFailure", "QuantizationCostTooHigh", "export"],
            "limits": ["Limits"],
            "parity.gate": ["Fault", "ParityReport"],
            "quantize.cost": ["QuantizationCost", "ProfileCost"],
            "profiles": ["NoProfile", "export_smallest"],
        },
    )

__all__ = [
    "Fault",
    "Limits",
    "NoProfile",
    "ParityFailure",
    "ParityReport",
    "ProfileCost",
    "QuantizationCost",
    "QuantizationCostTooHigh",
    "export",
    "export_smallest",
]
