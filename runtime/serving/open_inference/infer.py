"""The Open Inference Protocol, version 2, for the one file that is served.

Its requests are tensors, so the contract of the graph holds: nothing is excluded but the ids in
`exclude`, answers are padded, and ids stand in rows of equal length.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType
from numpy.typing import NDArray

from attnrec.runtime.batch import BATCH
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.facts import ModelInfo
from attnrec.runtime.recommender import Recommender
from attnrec.runtime.serving.answers import ServedFile
from attnrec.runtime.serving.errors import Refused, encode
from attnrec.runtime.serving.open_inference import tensors
from attnrec.runtime.serving.open_inference.tensors import (
    InputTensor,
    OutputTensor,
    Parameters,
    TensorSpec,
    wrong,
)
from attnrec.runtime.serving.schemas import MOST_ITEMS, check_size
from attnrec.runtime.side_inputs import check_seconds
from attnrec.runtime.version import __version__

NAME = "attnrec"
"""Name of the only model."""
LENGTH_HEADER = "Inference-Header-Content-Length"


class RequestedOutput(Struct):
    """An output that the request names."""

    name: str
    parameters: Parameters = Parameters()


class InferRequest(Struct):
    """A call of the graph; all outputs unless some are named."""

    inputs: Annotated[list[InputTensor], Meta(max_length=16)]
    outputs: Annotated[list[RequestedOutput], Meta(max_length=16)] = []
    id: str | UnsetType = UNSET
    parameters: Parameters = Parameters()


class InferResponse(Struct):
    """The outputs of the graph."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | UnsetType = UNSET


class InferError(Struct):
    """A refusal in the format of the protocol."""

    error: str


_parse = msgspec.json.Decoder(InferRequest).decode


def server_metadata(served: ServedFile) -> dict[str, Any]:
    """Metadata of the server."""
    return {"name": NAME, "version": __version__, "extensions": ["binary_tensor_data"]}


def is_live(served: ServedFile) -> dict[str, Any]:
    """The process lives."""
    return {"live": True}


def is_ready(served: ServedFile, name: str = NAME, version: str | None = None) -> dict[str, Any]:
    """Server and model are one and the same. `Refused` (503) if the file failed its self-test."""
    check_name(served, name, version)
    if served.fault is not None:
        raise Refused(503, served.fault)
    return {"name": NAME, "ready": True}


def model_metadata(
    served: ServedFile, name: str = NAME, version: str | None = None
) -> dict[str, Any]:
    """Metadata of the model."""
    check_name(served, name, version)
    info = served.recommender.info
    return {
        "name": NAME,
        "versions": [served.version],
        "platform": "onnx_onnxv1",
        "inputs": list(tensors.inputs_of(info).values()),
        "outputs": list(tensors.outputs_of(info).values()),
    }


def check_name(served: ServedFile, name: str, version: str | None = None) -> None:
    """404 for another model or version than the one that is served."""
    for what, named, there in (("model", name, NAME), ("version", version, served.version)):
        if named not in (None, there):
            raise Refused(404, f"there is no {what} {named!r:.60}; this one is {there!r}")


def infer(served: ServedFile, body: bytes, json_length: str | None) -> tuple[bytes, int | None]:
    """Run the graph: the body of the answer, and the length of its JSON if bytes follow.

    json_length: the header `Inference-Header-Content-Length` as it came. `Refused` names
    what cannot be run: 400 for anything in the body, 503 if the file failed its self-test.
    """
    is_ready(served)
    request, binary = _split(body, json_length)
    info = served.recommender.info
    ports = tensors.outputs_of(info)
    _check_names(request.outputs, ports, "output")
    arrays = _arrays(request.inputs, tensors.inputs_of(info), binary, info)
    n_items = len(arrays[names.HISTORY]) * min(int(arrays[names.K][0]), info.n_items)
    check_size(n_items, status=400)
    found = dict(zip(ports, _run(served.recommender, arrays), strict=True))
    results, blobs = [], []
    for output in request.outputs or map(RequestedOutput, ports):
        as_bytes = output.parameters.binary_data
        if as_bytes is UNSET:
            as_bytes = request.parameters.binary_data_output
        result, blob = tensors.write(ports[output.name], found[output.name], binary=as_bytes)
        results.append(result)
        blobs.append(blob)
    head = encode(InferResponse(NAME, served.version, results, request.id))
    any_bytes = any(result.data is UNSET for result in results)
    return head + b"".join(blobs), len(head) if any_bytes else None


def _split(body: bytes, json_length: str | None) -> tuple[InferRequest, memoryview]:
    """The JSON of a request, and the bytes behind it."""
    length = len(body)
    if json_length is not None:
        # Python refuses to read thousands of digits.
        plain = json_length.isascii() and json_length.isdecimal() and len(json_length) < 20
        if not plain or int(json_length) > length:
            raise wrong(f"{LENGTH_HEADER} is {json_length!r:.60}; the body has {length} bytes")
        length = int(json_length)
    try:
        return _parse(memoryview(body)[:length]), memoryview(body)[length:]
    except msgspec.ValidationError as error:
        raise wrong(str(error).replace("`", "")[:300]) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise wrong(f"the body is not JSON in UTF-8: {error}") from error


def _check_names(
    given: list[InputTensor] | list[RequestedOutput], ports: Mapping[str, TensorSpec], what: str
) -> None:
    """Each is an input or output of the file, is there once, and needs no other extension."""
    seen = set()
    for one in given:
        if one.name not in ports or one.name in seen:
            there = f"the {what}s are {', '.join(ports)}, each once"
            raise wrong(f"{one.name!r:.60} is no {what} here; {there}")
        seen.add(one.name)
        for extension in ("shared_memory_region", "classification"):
            if getattr(one.parameters, extension) is not UNSET:
                raise wrong(f"{one.name}: {extension} is not offered; leave it out")


def _arrays(
    given: list[InputTensor], ports: Mapping[str, TensorSpec], binary: memoryview, info: ModelInfo
) -> dict[str, NDArray[Any]]:
    """Every input of the graph: as given, and what may be left out as nothing."""
    _check_names(given, ports, "input")
    arrays: dict[str, NDArray[Any]] = {}
    for tensor in given:
        arrays[tensor.name], binary = tensors.read(tensor, ports[tensor.name], binary)
    if len(binary):
        raise wrong(f"{len(binary)} bytes behind the JSON belong to no input")
    if names.HISTORY not in arrays:
        raise wrong("the input 'history' is missing")
    n_rows = len(arrays[names.HISTORY])
    k = arrays.setdefault(names.K, np.array([10]))
    if not 1 <= k[0] <= MOST_ITEMS:
        raise wrong(f"k is {k[0]}; it must be 1 to {MOST_ITEMS}")
    for port in ports.values():
        array = arrays.setdefault(port.name, port.nothing(n_rows))
        if port.name != names.K and len(array) != n_rows:
            raise wrong(f"{port.name} has {len(array)} rows, history has {n_rows}")
        if port.name == names.BOOST_BY and array.shape != arrays[names.BOOST].shape:
            raise wrong(f"{port.name} must have the shape of {names.BOOST}: a number for each tag")
        if port.name in (names.TIMESTAMPS, names.REQUEST_TIME):
            _check_times(info, port.name, array)
    return arrays


def _check_times(info: ModelInfo, name: str, array: NDArray[Any]) -> None:
    try:
        check_seconds(info, name, array)
    except ValueError as error:
        raise wrong(str(error)) from error


def _run(recommender: Recommender, arrays: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """The outputs of the graph, computed in parts of a size that memory has room for."""
    k = int(arrays.pop(names.K)[0])
    parts = []
    for start in range(0, len(arrays[names.HISTORY]), BATCH):
        rows = {name: array[start : start + BATCH] for name, array in arrays.items()}
        history, exclude, candidates = map(rows.pop, names.REQUIRED_INPUTS[:3])
        parts.append(recommender._run(history, exclude, candidates, k, rows))
    return [np.concatenate(output) for output in zip(*parts, strict=True)]
