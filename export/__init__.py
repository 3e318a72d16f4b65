"""Export: from a run directory to one ONNX file. Needs the extra `attnrec[export]`."""

from attnrec.export.exporting import ParityFailure, PriceTooHigh, export
from attnrec.export.parity import Fault, ParityReport
from attnrec.export.price import Limits, Price

__all__ = [
    "Fault",
    "Limits",
    "ParityFailure",
    "ParityReport",
    "Price",
    "PriceTooHigh",
    "export",
]
