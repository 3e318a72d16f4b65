"""The ASGI application: checks a request, answers it, counts and logs it.

Bodies of /v1/recommend and its like are answered without Starlette, which would double the
processor time around the model; everything else is routed by Starlette.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from attnrec.runtime.serving.access_log import AccessLog
from attnrec.runtime.serving.answers import ServedFile
from attnrec.runtime.serving.authorization import Authorization
from attnrec.runtime.serving.connections import Connections
from attnrec.runtime.serving.errors import (
    ARRIVED,
    CLOSE,
    LATE,
    PROBLEM_JSON,
    STOPS,
    ClientGone,
    Refused,
    encode,
    problem_of,
)
from attnrec.runtime.serving.http_protocol import READ_SECONDS
from attnrec.runtime.serving.limits import ServerLimits
from attnrec.runtime.serving.metrics import ServerMetrics
from attnrec.runtime.serving.workers import Workers

logger = logging.getLogger(__name__)

JSON = "application/json"
FAILED = "the server failed; the reason is in its log"
_CLIENT_GONE = 499  # as nginx logs it; never sent
_DETAILS = {
    404: "nothing is at this path; use /v1/recommend, or see /openapi.json for all paths",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Service:
    """An ASGI application around one file, which may be replaced by another while it serves."""

    def __init__(
        self,
        served: ServedFile,
        limits: ServerLimits,
        authorization: Authorization | None = None,
        access_log: AccessLog | None = None,
    ) -> None:
        """authorization: None: no token, and only the host names of this machine."""
        self.served = served
        self.limits = limits
        self.authorization = authorization or Authorization()
        self.connections = Connections()
        self.workers = Workers(limits, self.connections)
        self.metrics = ServerMetrics()
        self.access_log = access_log
        self.endpoints: Starlette | None = None
        """Every path but those of `ServedFile.routes`; see `routes`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, count it and log it."""
        begun = scope["state"][ARRIVED]
        served: ServedFile = self.served  # one file for the whole request
        path = scope["path"]
        status, n_in, n_out = 500, 0, 0
        route = path if path in served.routes else "other"
        try:
            self.authorization.check(scope)
            if route != "other" and scope["method"] == "POST":
                body = await self.body_of(scope, receive)
                n_in = len(body)
                answer = await self.answered(served, path, body, scope["state"])
                status, n_out = 200, len(answer)
                await _reply(send, status, answer, JSON, begun)
            else:
                status, n_in, n_out, route = await self._routed(scope, receive, send)
        except ClientGone:
            status = _CLIENT_GONE
        except HTTPException as error:
            status, content, headers = refusal(error)
            kind = PROBLEM_JSON
            if path.startswith("/v2"):  # clients of that protocol read no problem documents
                kind, content = JSON, encode({"error": error.detail})
            n_out = len(content)
            await _reply(send, status, content, kind, begun, headers)
        finally:
            seconds = time.perf_counter() - begun
            self.metrics.observe(route, status, seconds)
            if self.access_log is not None:
                self.access_log.write(
                    scope["method"], route, status, seconds, (n_in, n_out), served.version
                )

    async def answered(
        self, served: ServedFile, path: str, body: bytes, state: MutableMapping[str, Any]
    ) -> bytes:
        """The answer to a body. `Refused` names the reason if there is none."""
        if served.fault is not None:
            raise Refused(503, served.fault)
        call = partial(served.answer, path, body)
        try:
            return await self.workers.run(call, state, is_short=served.is_short(path, body))
        except (HTTPException, ClientGone):
            raise
        except Exception as error:
            logger.exception("%s failed", path)
            raise Refused(500, FAILED) from error

    async def body_of(self, scope: Scope, receive: Receive) -> bytes:
        """The body of a request. `Refused` if it is no JSON, too large or too slow."""
        length, kind = b"0", b""
        for name, value in scope["headers"]:
            if name == b"content-length":
                length = value
            elif name == b"content-type":
                kind = value
        if kind.partition(b";")[0].strip().lower() != JSON.encode():
            raise Refused(415, f"the body must be JSON: send the header Content-Type: {JSON}")
        return await self.read(length, receive, scope["state"])

    async def read(
        self, length: bytes, receive: Receive, state: MutableMapping[str, Any]
    ) -> bytes:
        """The body. `Refused` if it is too large or too slow. length: as declared."""
        most, parts = self.limits.max_body, bytearray()
        try:
            if length.isdigit() and int(length[:20]) > most:
                raise OverflowError
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                parts += message["body"]
                if len(parts) > most:
                    raise OverflowError
                if not message["more_body"]:
                    return bytes(parts)
                if state.get(LATE):
                    detail = f"the body did not arrive within {READ_SECONDS} seconds"
                    raise Refused(408, detail, headers=CLOSE)
        except OverflowError:
            detail = (
                f"the body is larger than {most} bytes; send fewer ids or rows, or start the "
                "server with a larger --max-body"
            )
            raise Refused(413, detail, headers=CLOSE, limit=most) from None
        except asyncio.CancelledError:
            raise Refused(503, STOPS, headers=CLOSE) from None

    def count_refusal(self, status: int, n_out: int) -> None:
        """Count and log the answer to a head that is too large, or to a connection too many."""
        self.metrics.observe("other", status, 0.0)
        if self.access_log is not None:
            self.access_log.write("-", "other", status, 0.0, (0, n_out), self.served.version)

    async def _routed(
        self, scope: Scope, receive: Receive, send: Send
    ) -> tuple[int, int, int, str]:
        """Let Starlette answer; returns status, bytes in, bytes out and route for the log."""
        assert self.endpoints is not None
        status, n_in, n_out = 500, 0, 0

        async def received() -> MutableMapping[str, Any]:
            nonlocal n_in
            message = await receive()
            n_in += len(message.get("body", b""))
            return message

        async def count(message: MutableMapping[str, Any]) -> None:
            nonlocal status, n_out
            status = message.get("status", status)
            n_out += len(message.get("body", b""))
            await send(message)

        await self.endpoints(scope, received, count)
        return status, n_in, n_out, getattr(scope.get("route"), "path", "other")


def refusal(error: HTTPException) -> tuple[int, bytes, dict[str, str]]:
    """Status, problem document and headers of a refusal."""
    status, members = error.status_code, getattr(error, "members", {})
    headers = dict(error.headers or {})
    detail = _DETAILS.get(status, error.detail)
    if status == 405:
        detail = f"this path takes {headers.get('Allow', 'another method')}; use that"
    return status, problem_of(status, detail, **members), headers


async def refuse(request: Request, error: Exception) -> Response:
    """Any error of a Starlette endpoint as a problem document."""
    if isinstance(error, ClientDisconnect):
        error = Refused(400, "the client closed the connection")
    if not isinstance(error, HTTPException):  # a fault of the server, and logged
        error = Refused(500, FAILED)
    status, content, headers = refusal(error)
    return Response(content, status, headers, media_type=PROBLEM_JSON)


async def _reply(
    send: Send,
    status: int,
    content: bytes,
    media_type: str,
    begun: float,
    headers: dict[str, str] | None = None,
) -> None:
    milliseconds = (time.perf_counter() - begun) * 1e3
    sent = [
        (b"content-type", media_type.encode()),
        (b"content-length", str(len(content)).encode()),
        (b"server-timing", b"total;dur=%.3f" % milliseconds),
    ]
    sent += [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": content})
