"""The paths of the Open Inference Protocol; its refusals are no problem documents."""

from collections.abc import Awaitable, Callable
from functools import partial

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from attnrec.runtime.serving.app import JSON, Service
from attnrec.runtime.serving.errors import ClientGone, encode
from attnrec.runtime.serving.open_inference import protocol

MODEL_PATHS = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
BINARY = "application/octet-stream"
_FACTS: dict[str, Callable[..., protocol.Facts]] = {
    "/v2": protocol.server,
    "/v2/health/live": protocol.live,
    "/v2/health/ready": protocol.ready,
    **dict.fromkeys(MODEL_PATHS, protocol.model),
    **dict.fromkeys((path + "/ready" for path in MODEL_PATHS), protocol.ready),
}


def inference_routes(service: Service) -> list[Route]:
    """What Triton's clients ask for."""

    async def facts(request: Request) -> Response:
        found = _FACTS[request.scope["route"].path](service.served, **request.path_params)
        return Response(encode(found), media_type=JSON)

    async def infer(request: Request) -> Response:
        served, length = service.served, request.headers.get(protocol.LENGTH_HEADER)
        protocol.check_name(served, **request.path_params)
        declared = request.headers.get("content-length", "0").encode()
        state = request.scope["state"]
        body = await service.read(declared, request.receive, state)
        head: int | None = None

        def call() -> bytes:
            nonlocal head
            answer, head = protocol.infer(served, body, length)
            return answer

        answer = await service.computing.run(call, state, is_short=False)
        if head is None:
            return Response(answer, media_type=JSON)
        return Response(answer, headers={protocol.LENGTH_HEADER: str(head)}, media_type=BINARY)

    routes = [Route(path, partial(_guarded, facts)) for path in _FACTS]
    for path in MODEL_PATHS:
        routes.append(Route(path + "/infer", partial(_guarded, infer), methods=["POST"]))
    return routes


async def _guarded(
    endpoint: Callable[[Request], Awaitable[Response]], request: Request
) -> Response:
    try:
        return await endpoint(request)
    except ClientGone:
        return Response(status_code=400)  # nobody reads it
    except HTTPException as error:
        content = encode(protocol.Fault(error.detail))
        return Response(content, error.status_code, error.headers, media_type=JSON)
