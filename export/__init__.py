"""Export: from a run directory to one ONNX file. Needs the extra `attnrec[export]`."""

from typing import TYPE_CHECKING

from attnrec.runtime.lazy import on_first_use

if TYPE_CHECKING:
    from attnrec.export.exporting import ParityFailure, PriceTooHigh, export
    from attnrec.export.limits import Limits
    from attnrec.export.parity import Fault, ParityReport
    from attnrec.export.price import Price, ProfileCost
    from attnrec.export.profiles import NoProfile, export_smallest
else:
    __getattr__ = on_first_use(
        __name__,
        {
            "exporting": ["ParityFailure", "PriceTooHigh", "export"],
            "limits": ["Limits"],
            "parity": ["Fault", "ParityReport"],
            "price": ["Price", "ProfileCost"],
            "profiles": ["NoProfile", "export_smallest"],
        },
    )

__all__ = [
    "Fault",
    "Limits",
    "NoProfile",
    "ParityFailure",
    "ParityReport",
    "Price",
    "PriceTooHigh",
    "ProfileCost",
    "export",
    "export_smallest",
]
