"""For all tests. What needs torch is imported by the tests that need it."""

import functools
import logging
import os
from collections.abc import Iterator

import pytest

# Many tests import onnxruntime before attnrec, which would keep it from reporting to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@pytest.fixture(scope="session")
def operators_read_once() -> Iterator[None]:
    """For tests that export many models: torch reads 497 operators anew each time."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        once = functools.cache(ONNXRegistry.from_torchlib)
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(once))
        yield


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Commands that run in this process set how much attnrec says: for themselves alone."""
    yield
    logging.getLogger("attnrec").setLevel(logging.NOTSET)
