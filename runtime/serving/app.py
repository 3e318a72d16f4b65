"""The HTTP interface: routes, the limits of a request, and the queue before the model."""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from attnrec.runtime.serving.answering import Served
from attnrec.runtime.serving.messages import Refused, encode, problem_of
from attnrec.runtime.serving.protocol import READ_SECONDS

_JSON = "application/json"
_CLOSE = {"Connection": "close"}  # what is left of the body is not waited for
_DETAILS = {
    404: "nothing is at this path; there are /v1/recommend, /v1/model, /healthz and /readyz",
    405: "this path takes another method, see the header Allow",
}


@dataclass(frozen=True)
class Limits:
    """What a server takes on."""

    threads: int = 1
    """Requests that are computed at the same time, each on one core."""
    queue: int = 64
    """Requests that wait for a thread; further ones are refused at once."""
    max_body: int = 65536
    """Bytes of a request."""


_Work = tuple[Callable[[bytes], bytes], bytes, asyncio.Future[bytes | Exception]]


class Service:
    """The endpoints, and what they share."""

    def __init__(self, served: Served, limits: Limits) -> None:
        self._served = served
        self._limits = limits
        self._free = limits.threads + limits.queue
        self._work: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        for _ in range(limits.threads):
            threading.Thread(target=self._compute_for_ever, daemon=True).start()

    async def recommend(self, request: Request) -> Response:
        """`POST /v1/recommend`."""
        served = self._served  # one file for the whole request
        if served.fault is not None:
            raise Refused(503, served.fault)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
            raise Refused(415, f"the body must be JSON: send the header Content-Type: {_JSON}")
        try:
            body = await self._body(request)
            return Response(await self._computed(served.answer, body), media_type=_JSON)
        except asyncio.CancelledError:
            raise Refused(503, "the server stops, ask another one", headers=_CLOSE) from None

    async def model(self, request: Request) -> Response:
        """`GET /v1/model`: what the file says of itself."""
        return Response(self._served.facts, media_type=_JSON)

    async def healthz(self, request: Request) -> Response:
        """`GET /healthz`: the process lives."""
        return Response(encode({"status": "alive"}), media_type=_JSON)

    async def readyz(self, request: Request) -> Response:
        """`GET /readyz`: the file reproduced its golden vectors on this machine."""
        if self._served.fault is not None:
            raise Refused(503, self._served.fault)
        ready = {"status": "ready", "model_version": self._served.version}
        return Response(encode(ready), media_type=_JSON)

    async def _body(self, request: Request) -> bytes:
        most = self._limits.max_body
        body = bytearray()
        length = request.headers.get("content-length", "0")
        try:
            if length.isdecimal() and int(length) > most:
                raise OverflowError
            async with asyncio.timeout(READ_SECONDS):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise OverflowError
        except OverflowError:
            detail = f"the body is larger than {most} bytes; send fewer ids or rows"
            raise Refused(413, detail, headers=_CLOSE, limit=most) from None
        except TimeoutError:
            detail = f"the body did not arrive within {READ_SECONDS} seconds"
            raise Refused(408, detail, headers=_CLOSE) from None
        return bytes(body)

    async def _computed(self, call: Callable[[bytes], bytes], body: bytes) -> bytes:
        """The result of the call, made in a worker thread: this one goes on answering."""
        if not self._free:
            detail = f"{self._limits.queue} requests are waiting already, try again soon"
            raise Refused(503, detail, headers={"Retry-After": "1"}, limit=self._limits.queue)
        future = asyncio.get_running_loop().create_future()
        self._free -= 1
        try:
            self._work.put((call, body, future))
            result: bytes | Exception = await future
        finally:
            self._free += 1
        if isinstance(result, Exception):
            raise result
        return result

    def _compute_for_ever(self) -> None:
        """What a worker thread does; asyncio's own pool costs 70 microseconds a call more."""
        while True:
            call, body, future = self._work.get()
            if future.cancelled():
                continue
            result: bytes | Exception
            try:
                result = call(body)
            except Exception as error:
                result = error
            with suppress(RuntimeError):  # the loop has ended meanwhile
                future.get_loop().call_soon_threadsafe(_settle, future, result)


def make_app(service: Service) -> Starlette:
    """The application, for any ASGI server."""
    app = Starlette(
        routes=[
            Route("/v1/recommend", service.recommend, methods=["POST"]),
            Route("/v1/model", service.model),
            Route("/healthz", service.healthz),
            Route("/readyz", service.readyz),
        ],
        exception_handlers=dict.fromkeys((HTTPException, ClientDisconnect, Exception), _refuse),
    )
    # A redirect would repeat the Host header of the request.
    app.router.redirect_slashes = False
    return app


async def _refuse(request: Request, error: Exception) -> Response:
    """Any error as a problem document; who has gone away does not read it."""
    if not isinstance(error, HTTPException):  # a fault of ours or of the machine, and logged
        error = Refused(500, "the server failed; its log says why")
    status, members = error.status_code, getattr(error, "members", {})
    body = problem_of(status, _DETAILS.get(status, error.detail), **members)
    return Response(body, status, error.headers, media_type="application/problem+json")


def _settle(future: asyncio.Future[bytes | Exception], result: bytes | Exception) -> None:
    if not future.cancelled():
        future.set_result(result)
