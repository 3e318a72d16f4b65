"""For all tests. What needs torch is imported by the tests that need it."""

import functools
import gc
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

Tracing = Callable[[], AbstractContextManager[None]]

# Many tests import onnxruntime before attnrec, which would keep it from reporting to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def pytest_collection_finish() -> None:
    """What is imported by now stays: no collection of garbage has to look through it again.

    It was a quarter of the time where many small objects are made, as in an export.
    """
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was not tested, once for each reason; a reason says what to install."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    if reasons:
        terminalreporter.section("not tested here")
    for reason, n_tests in reasons.items():
        tests = "1 test" if n_tests == 1 else f"{n_tests} tests"
        terminalreporter.line(f"{tests}: {reason}")


@pytest.fixture(scope="session")
def operators_read_once() -> Iterator[None]:
    """For tests that export many models: torch reads 497 operators anew each time."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        once = functools.cache(ONNXRegistry.from_torchlib)
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(once))
        yield


def _once_for_equal_weights(trace: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`export_body` or `export_added`, which keep what came of a model and hand out copies."""
    parts: dict[str, Any] = {}

    def get(model: Any) -> Any:
        key = hashlib.sha256(f"{type(model)}{model.config}".encode())
        for name, weight in model.state_dict().items():
            key.update(name.encode() + weight.numpy().tobytes())
        if key.hexdigest() not in parts:
            parts[key.hexdigest()] = trace(model)
        part = parts[key.hexdigest()]
        return None if part is None else part.clone()

    return get


@pytest.fixture(scope="session")
def tracing_once(operators_read_once: None) -> Tracing:
    """Within this, models of equal weights are traced once: it is the slow part of an export."""
    from attnrec.export import build

    once = {
        name: _once_for_equal_weights(getattr(build, name))
        for name in ("export_body", "export_added")
    }

    @contextmanager
    def patched() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name, trace in once.items():
                patch.setattr(build, name, trace)
            yield

    return patched


@pytest.fixture(scope="module")
def equal_weights_are_traced_once(tracing_once: Tracing) -> Iterator[None]:
    """For files whose tests export the same few runs again and again."""
    with tracing_once():
        yield


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Commands that run in this process set how much attnrec says: for themselves alone."""
    yield
    logging.getLogger("attnrec").setLevel(logging.NOTSET)
