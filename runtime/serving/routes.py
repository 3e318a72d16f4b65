"""What there is beside the bodies to be answered: health, facts, search, pages, reloading."""

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from attnrec.runtime.serving import metrics, openapi
from attnrec.runtime.serving.app import JSON, Service, refuse
from attnrec.runtime.serving.errors import Refused, encode
from attnrec.runtime.serving.open_inference.routes import inference_routes
from attnrec.runtime.serving.page.page import page
from attnrec.runtime.serving.reloading import Reloading
from attnrec.runtime.serving.search import LONGEST_QUERY, MOST_FOUND

_NO_SELFTEST = "the file failed its self-test; the log of the server says where"
_NO_RELOAD = "the last reload failed; the log of the server says why"


class Pages:
    """The endpoints that Starlette routes."""

    def __init__(self, service: Service, reloading: Reloading) -> None:
        self._service = service
        self._reloading = reloading
        self._description: tuple[str, bytes] | None = None

    def app(self) -> Starlette:
        """The application."""
        app = Starlette(
            routes=[
                Route("/", page),
                Route("/healthz", self.healthz),
                Route("/readyz", self.readyz),
                Route("/metrics", self.metrics),
                Route("/v1/model", self.model),
                Route("/v1/items", self.items),
                Route("/v1/reload", self.reload, methods=["POST"]),
                Route("/openapi.json", self.openapi),
                *inference_routes(self._service),
                *(Route(path, _posted_only, methods=["POST"]) for path in self._posted()),
            ],
            exception_handlers=dict.fromkeys((HTTPException, ClientDisconnect, Exception), refuse),
        )
        # A redirect would repeat the Host header of the request.
        app.router.redirect_slashes = False
        return app

    def _posted(self) -> list[str]:
        """Paths of bodies to be answered, so that other methods get 405 here and not 404."""
        return list(self._service.served.routes)

    async def healthz(self, request: Request) -> Response:
        """The process lives."""
        return _json({"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        """The file reproduced its golden vectors on this machine.

        Anybody may ask; why something failed holds ids and paths, and is for those who may ask
        everything.
        """
        served, failure = self._service.served, self._reloading.failure
        fault = served.fault
        if not self._service.may_ask(request.scope):
            fault, failure = fault and _NO_SELFTEST, failure and _NO_RELOAD
        if fault is not None:
            raise Refused(503, fault)
        ready = {"status": "ready", "model_version": served.version}
        if failure is not None:
            ready["reload_failed"] = failure
        return _json(ready)

    async def model(self, request: Request) -> Response:
        """What the file says of itself."""
        return Response(self._service.served.facts, media_type=JSON)

    async def items(self, request: Request) -> Response:
        """Search by title."""
        query = request.query_params.get("q", "")
        limit = request.query_params.get("limit", "20")
        if len(query) > LONGEST_QUERY:
            detail = f"q: {len(query)} characters, the limit is {LONGEST_QUERY}; search for less"
            raise Refused(422, detail, field="q", limit=LONGEST_QUERY)
        is_number = limit.isascii() and limit.isdigit() and len(limit) < 10
        if not is_number or not 1 <= int(limit) <= MOST_FOUND:
            detail = f"limit: {limit[:60]!r} is no whole number from 1 to {MOST_FOUND}"
            raise Refused(422, detail, field="limit", value=limit[:60], limit=MOST_FOUND)
        served = self._service.served

        def search() -> bytes:
            return encode(served.catalogue.get().search(query, int(limit)))

        return await self._in_turn(search, request)

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        service, served = self._service, self._service.served
        facts: dict[str, object] = {
            "version": served.version,
            "model": served.recommender.info.model,
            "profile": served.recommender.info.profile,
        }
        log = service.access_log
        n_listed, n_gone = self._reloading.n_unavailable, len(served.recommender.unavailable)
        gauges: list[tuple[str, str, dict[str, object], float]] = [
            ("attnrec_model_info", "The file that is served.", facts, 1),
            ("attnrec_model_loaded_seconds", "Since 1970.", {}, served.loaded_at),
            ("attnrec_ready", "The file passed its self-test.", {}, served.fault is None),
            ("attnrec_requests_waiting", "Taken, not answered.", {}, service.computing.waiting),
            ("attnrec_queue_limit", "How many may wait.", {}, service.limits.queue),
            ("attnrec_unread_bytes", "Of answers.", {}, service.connections.unread),
            ("attnrec_unavailable_items", "Never returned.", {}, n_gone),
            ("attnrec_unavailable_ids_unknown", "Of the list.", {}, n_listed - n_gone),
            ("attnrec_log_lines_dropped_total", "Unread.", {}, log.dropped if log else 0),
        ]  # fmt: skip
        text = service.metrics.render([(n, h, labels, float(v)) for n, h, labels, v in gauges])
        return Response(text, media_type=metrics.CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:
        """What there is."""
        return Response(self._described(), media_type=JSON)

    def _described(self) -> bytes:
        """The document, made once for a file: it takes 10 ms."""
        served = self._service.served
        if self._description is None or self._description[0] != served.version:
            examples = served.recommender.recommend([], 2, exclude_seen=False).item_ids
            document = openapi.document(
                served.recommender.info,
                served.version,
                has_token=self._service.has_token,
                examples=examples if len(examples) == 2 else (),
            )
            self._description = served.version, encode(document)
        return self._description[1]

    async def reload(self, request: Request) -> Response:
        """Load the file again, for those who have the token."""
        if not self._service.has_token:
            detail = "start the server with --token-file to reload over HTTP, or send SIGHUP"
            raise Refused(403, detail)
        before = self._service.served.version
        await self._reloading.reload()
        if self._reloading.failure is not None:
            detail = f"{self._reloading.failure}; still serving {before}"
            raise Refused(409, detail)
        after = self._service.served.version
        return _json({"model_version": after, "previous_version": before})

    async def _in_turn(self, call: Callable[[], bytes], request: Request) -> Response:
        state: Any = request.scope["state"]
        content = await self._service.computing.run(call, state, is_short=False)
        return Response(content, media_type=JSON)


async def _posted_only(request: Request) -> Response:
    raise AssertionError("bodies are answered by Service")


def _json(content: object) -> Response:
    return Response(encode(content), media_type=JSON)
