"""The paths of the Open Inference Protocol, whose errors are no problem documents."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from attnrec.runtime.serving.app import JSON, Service
from attnrec.runtime.serving.errors import ClientGone, encode
from attnrec.runtime.serving.open_inference.infer import (
    LENGTH_HEADER,
    InferError,
    check_name,
    infer,
    is_live,
    is_ready,
    model_metadata,
    server_metadata,
)

MODEL_PATHS = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
BINARY = "application/octet-stream"
_METADATA: dict[str, Callable[..., dict[str, Any]]] = {
    "/v2": server_metadata,
    "/v2/health/live": is_live,
    "/v2/health/ready": is_ready,
    **dict.fromkeys(MODEL_PATHS, model_metadata),
    **dict.fromkeys((path + "/ready" for path in MODEL_PATHS), is_ready),
}


def inference_routes(service: Service) -> list[Route]:
    """The paths that Triton's clients use."""

    async def metadata(request: Request) -> Response:
        found = _METADATA[request.scope["route"].path](service.served, **request.path_params)
        return Response(encode(found), media_type=JSON)

    async def run_graph(request: Request) -> Response:
        served, length = service.served, request.headers.get(LENGTH_HEADER)
        check_name(served, **request.path_params)
        declared = request.headers.get("content-length", "0").encode()
        state = request.scope["state"]
        body = await service.read(declared, request.receive, state)
        head: int | None = None

        def call() -> bytes:
            nonlocal head
            answer, head = infer(served, body, length)
            return answer

        answer = await service.workers.run(call, state, is_short=False)
        if head is None:
            return Response(answer, media_type=JSON)
        return Response(answer, headers={LENGTH_HEADER: str(head)}, media_type=BINARY)

    routes = [Route(path, partial(_guarded, metadata)) for path in _METADATA]
    for path in MODEL_PATHS:
        routes.append(Route(path + "/infer", partial(_guarded, run_graph), methods=["POST"]))
    return routes


async def _guarded(
    endpoint: Callable[[Request], Awaitable[Response]], request: Request
) -> Response:
    try:
        return await endpoint(request)
    except ClientGone:
        return Response(status_code=400)  # the connection is closed
    except HTTPException as error:
        content = encode(InferError(error.detail))
        return Response(content, error.status_code, error.headers, media_type=JSON)
