"""For all tests. What needs torch is imported by the tests that need it."""

import os

# Many tests import onnxruntime before attnrec, which would keep it from reporting to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
