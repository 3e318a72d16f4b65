"""The facts that a model file states about itself."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attnrec.runtime.errors import ModelFileError
from attnrec.runtime.model_file import format as names

_LONGEST_FACTS = 2**20  # characters of an entry; attnrec writes some thousands


@dataclass(frozen=True)
class ModelInfo:
    """Read from the metadata of a file; none of it changes after loading."""

    format_version: int
    """Version of the graph contract; this library reads 1."""
    model: str
    """Name of the model, such as "sasrec"."""
    config: Mapping[str, Any]
    """The model's settings."""
    id_type: names.IdType
    """Type of item ids, "int64" or "string"."""
    n_items: int
    """Items in the catalogue."""
    catalogue_sha256: str
    """sha256 over the item ids in the order of the table: equal for equal catalogues."""
    max_len: int
    """Newest known events of a history that count."""
    inputs: tuple[str, ...]
    """Inputs that the graph declares."""
    has_titles: bool
    """Whether answers carry titles."""
    repeats: bool
    """Whether items of the history may be recommended again: the policy of the training run."""
    profile: str
    """"fp32": exact. "int8", "int4": the item vectors are rounded to so many bits."""
    final: bool
    """True: trained on every event, so `metrics` were measured on the run before."""
    data: Mapping[str, Any]
    """How the log was read, its figures and its fingerprint."""
    metrics: Mapping[str, Any]
    """Held-out figures with their protocol."""
    parity: Mapping[str, Any] | None
    """Report of the comparison with the torch model; None only while a file is being made."""
    versions: Mapping[str, str]
    """Libraries that made the file, and "lowest_onnxruntime" that can run it."""
    user_id_type: names.IdType | None = None
    """Type of user ids, "int64" or "string"; None: the file knows no users."""
    n_users: int = 0
    """User ids that the file holds: personal data."""
    has_attention: bool = False
    """Whether the graph has the output `attention`: a weight for each event."""
    rules: Mapping[str, Any] = field(default_factory=dict)
    """What requests may name in rules: "tags", for each column its values with how many items
    have each, "numbers", the least and the largest of each, and "boost_unit", what a boost of 1
    adds to a score; {}: the file knows no rules."""
    sha256: str | None = None
    """The seal of the file; None only while it is being made."""

    def to_metadata(self) -> dict[str, str]:
        """Metadata entries of a model file, as JSON texts."""
        model = {
            name: getattr(self, name)
            for name in (
                "model", "config", "id_type", "n_items", "catalogue_sha256", "max_len",
                "inputs", "has_titles", "repeats", "profile", "final",
            )
        }  # fmt: skip
        if self.user_id_type is not None:
            model |= {"user_id_type": self.user_id_type, "n_users": self.n_users}
        if self.has_attention:
            model["has_attention"] = True
        entries = {
            names.FORMAT_KEY: self.format_version,
            names.MODEL_KEY: model,
            names.DATA_KEY: self.data,
            names.METRICS_KEY: self.metrics,
            names.VERSIONS_KEY: self.versions,
        }
        if self.rules:
            entries[names.RULES_KEY] = self.rules
        if self.parity is not None:
            entries[names.PARITY_KEY] = self.parity
        return {key: json.dumps(value, ensure_ascii=False) for key, value in entries.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "ModelInfo":
        """Read the entries; unknown keys are ignored. `ModelFileError` if one is missing."""
        version = format_version(metadata)
        try:
            model = _facts(metadata[names.MODEL_KEY])
            model["inputs"] = tuple(map(str, model["inputs"]))
            versions = _facts(metadata[names.VERSIONS_KEY])
            data = _facts(metadata[names.DATA_KEY])
            n_items = model["n_items"]
            if model["id_type"] not in names.PADDING or not isinstance(versions, dict):
                raise ValueError(f"id_type {model['id_type']!r}, versions {versions!r}")
            if not isinstance(data, dict):
                raise ValueError(f"data {data!r}")
            if type(n_items) is not int or n_items < 1:
                raise ValueError(f"n_items {n_items!r}")
            if model.get("user_id_type") not in (None, *names.PADDING):
                raise ValueError(f"user_id_type {model['user_id_type']!r}")
            if type(model.get("n_users", 0)) is not int:
                raise ValueError(f"n_users {model['n_users']!r}")
            return cls(
                format_version=version,
                **{name: model[name] for name in cls.__dataclass_fields__ if name in model},
                data=data,
                metrics=_facts(metadata[names.METRICS_KEY]),
                parity=_facts(metadata.get(names.PARITY_KEY, "null")),
                versions=versions,
                rules=_rules(metadata.get(names.RULES_KEY, "{}")),
                sha256=metadata.get(names.SEAL_KEY),
            )
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ModelFileError(
                f"the model's metadata is incomplete ({repr(error)[:200]}); export it again"
            ) from error


def _facts(entry: str) -> Any:
    """The JSON of a metadata entry; `ValueError` for no JSON, or an entry far too long."""
    if len(entry) > _LONGEST_FACTS:
        raise ValueError(f"an entry of {len(entry)} characters, limit {_LONGEST_FACTS}")
    return json.loads(entry)


def _rules(entry: str) -> dict[str, Any]:
    rules = _facts(entry)
    if rules:
        tags = {
            str(column): {str(v): int(n) for v, n in own.items()}
            for column, own in rules["tags"].items()
        }
        numbers = {
            str(name): [float(low), float(high)] for name, (low, high) in rules["numbers"].items()
        }
        rules = {"tags": tags, "numbers": numbers, "boost_unit": float(rules["boost_unit"])}
    return dict(rules)


def format_version(metadata: Mapping[str, str]) -> int:
    """The format version; `ModelFileError` where there is none, or a newer one."""
    text = metadata.get(names.FORMAT_KEY)
    if text is None:
        raise ModelFileError(
            "this ONNX model is not an attnrec file: it has no metadata entry "
            f"{names.FORMAT_KEY!r}; make one with attnrec-export"
        )
    if text not in {str(version) for version in range(1, names.FORMAT_VERSION + 1)}:
        raise ModelFileError(
            f"the file has format {text[:20]!r}, this attnrec reads up to format "
            f"{names.FORMAT_VERSION}: upgrade attnrec, or export with the version in use here"
        )
    return int(text)
