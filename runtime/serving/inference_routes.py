"""The paths of the Open Inference Protocol; its refusals are no problem documents."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from attnrec.runtime.serving import inference_protocol as protocol
from attnrec.runtime.serving.app import JSON, Service
from attnrec.runtime.serving.problems import ClientGone, encode

MODEL_PATHS = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
BINARY = "application/octet-stream"
Endpoint = Callable[[Request], Awaitable[Response]]


def inference_routes(service: Service) -> list[Route]:
    """What Triton's clients ask for."""

    async def infer(request: Request) -> Response:
        served, length = service.served, request.headers.get(protocol.LENGTH_HEADER)
        protocol.check_name(served, **request.path_params)
        declared = request.headers.get("content-length", "0").encode()
        body = await service.read(declared, request.receive)
        head: int | None = None

        def call() -> bytes:
            nonlocal head
            answer, head = protocol.infer(served, body, length)
            return answer

        state: Any = request.scope["state"]
        answer = await service.computing.run(call, state, is_short=False)
        if head is None:
            return Response(answer, media_type=JSON)
        return Response(answer, headers={protocol.LENGTH_HEADER: str(head)}, media_type=BINARY)

    def facts(of: Callable[..., object]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            return Response(encode(of(service.served, **request.path_params)), media_type=JSON)

        return endpoint

    routes = [
        Route("/v2", _guarded(facts(lambda served: protocol.ServerFacts()))),
        Route("/v2/health/live", _guarded(facts(lambda served: protocol.Life()))),
        Route("/v2/health/ready", _guarded(facts(protocol.readiness))),
    ]
    for path in MODEL_PATHS:
        routes += [
            Route(path, _guarded(facts(protocol.describe))),
            Route(path + "/ready", _guarded(facts(protocol.readiness))),
            Route(path + "/infer", _guarded(infer), methods=["POST"]),
        ]
    return routes


def _guarded(endpoint: Endpoint) -> Endpoint:
    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ClientGone:
            return Response(status_code=400)  # nobody reads it
        except HTTPException as error:
            content = encode(protocol.Fault(error.detail))
            return Response(content, error.status_code, error.headers, media_type=JSON)

    return guarded
