"""One way to make an onnxruntime session: quiet, and with the threads that were asked for."""

from collections.abc import Sequence
from typing import Any

import onnxruntime


def make_session(
    model: bytes, *, n_threads: int = 1, providers: Sequence[Any] | None = None
) -> onnxruntime.InferenceSession:
    """A session over the bytes of a model; onnxruntime's own exceptions where it refuses them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors arrive as exceptions, not on stderr as well
    return onnxruntime.InferenceSession(
        model, options, providers=list(providers or ["CPUExecutionProvider"])
    )
