"""File format 1: the names inside an attnrec model file, and the seal at its end.

Everything that writes or reads such a file takes the names from here.
"""

import hashlib
from mmap import mmap
from typing import Literal

FORMAT_VERSION = 1
PRODUCER = "attnrec"

# Inputs and outputs of the graph.
HISTORY, EXCLUDE, CANDIDATES, K = "history", "exclude", "candidates", "k"
ITEMS, SCORES, N_KNOWN, TITLES = "items", "scores", "n_known", "titles"
ATTENTION = "attention"
"""Declared, as the last output, only in files of models that weigh the events of a history."""
REQUIRED_INPUTS = (HISTORY, EXCLUDE, CANDIDATES, K)
USER, USER_TAGS = "user", "user_tags"
TIMESTAMPS, REQUEST_TIME = "timestamps", "request_time"
CALLER_INPUTS = (USER, USER_TAGS, TIMESTAMPS, REQUEST_TIME)
"""The side inputs: declared only in files of models that use them."""
REQUIRE_ALL, REQUIRE_ANY, FORBID = "require_all", "require_any", "forbid"
BOOST, BOOST_BY = "boost", "boost_by"
AT_LEAST, AT_MOST = "at_least", "at_most"
TAG_INPUTS = (REQUIRE_ALL, REQUIRE_ANY, FORBID, BOOST)
BOUNDS = (AT_LEAST, AT_MOST)
RULES = "rules"
"""Of a golden vector: the rules of its request."""
RULE_INPUTS = (*TAG_INPUTS, BOOST_BY, *BOUNDS)
"""Rules: declared only in files whose items have tags, or numbers."""
N_ALLOWED = "n_allowed"
"""Declared, after the titles, only in files with rules: items that a row allows."""
NO_TIME = -1
"""Times are Unix seconds; below 0 they are unknown."""

IdType = Literal["int64", "string"]
PADDING: dict[str, int | str] = {"int64": -1, "string": ""}
"""The raw id that stands for "nothing here", in inputs and past the end of an answer."""

# Metadata entries; every value but the seal is JSON.
FORMAT_KEY = "attnrec.format"
MODEL_KEY = "attnrec.model"
DATA_KEY = "attnrec.data"
METRICS_KEY = "attnrec.metrics"
PARITY_KEY = "attnrec.parity"
GOLDEN_KEY = "attnrec.golden"
VERSIONS_KEY = "attnrec.versions"
RULES_KEY = "attnrec.rules"
SEAL_KEY = "attnrec.sha256"

LONGEST = 100_000
"""Most ids in one list of a call."""

SEAL_LENGTH = 64
"""The file ends in this many hex digits: the sha256 of everything before them."""


def metadata_entry(key: str, value: str) -> bytes:
    """A metadata entry as the bytes to append to a model.

    An ONNX file is a protobuf message, and repeated fields may be appended to one: field 14 of
    ModelProto is a metadata entry, with key (field 1) and value (field 2).
    """
    entry = field(1, key.encode()) + field(2, value.encode())
    return field(14, entry)


def seal(model: bytes) -> bytes:
    """Append the metadata entry `attnrec.sha256`, whose value is the end of the file."""
    entry = metadata_entry(SEAL_KEY, "0" * SEAL_LENGTH)
    unsealed = model + entry[:-SEAL_LENGTH]
    return unsealed + hashlib.sha256(unsealed).hexdigest().encode()


def field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    length = len(content)
    varint = bytearray()
    while length >= 0x80:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *varint, length]) + content


def seal_is_intact(file: bytes | bytearray | mmap) -> bool:
    """Whether the last 64 bytes are the sha256 of the rest: unchanged, not trusted."""
    content = memoryview(file)[:-SEAL_LENGTH]
    return hashlib.sha256(content).hexdigest().encode() == file[-SEAL_LENGTH:]


def is_of_attnrec(head: bytes) -> bool:
    """Whether a file that begins so (16 bytes) was made here, however damaged it is since."""
    return field(2, PRODUCER.encode()) in head  # field 2 of ModelProto, behind the IR version


def score_tolerance(largest: float) -> float:
    """How far a score may lie from its reference; largest: biggest absolute score of the row."""
    return 1e-5 * max(1.0, largest)
