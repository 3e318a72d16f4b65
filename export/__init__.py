"""Export: from a run directory to one ONNX file. Needs the extra `attnrec[export]`."""

from attnrec.export.exporting import ParityFailure, PriceTooHigh, export
from attnrec.export.parity import Fault, ParityReport
from attnrec.export.price import Limits, Price, ProfileCost
from attnrec.export.profiles import NoProfile, export_smallest

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
