"""Export: from a run directory to one ONNX file. Needs the extra `attnrec[export]`."""

from attnrec.export.exporting import ParityFailure, export
from attnrec.export.parity import Fault, ParityReport

__all__ = ["Fault", "ParityFailure", "ParityReport", "export"]
