"""The endpoints that Starlette routes: health, facts, search, metrics, page, reloading."""

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
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

_NO_SELFTEST = "the file failed its self-test; see the log of the server"
_NO_RELOAD = "the last reload failed; see the log of the server"


class Endpoints(Collector):
    """What they answer, and the gauges of a service."""

    def __init__(self, service: Service, reloading: Reloading) -> None:
        self._service = service
        self._reloading = reloading
        self._description: tuple[str, bytes] | None = None
        service.metrics.registry.register(self)

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
                # Here for other methods, which get 405 and not 404.
                *(Route(p, _posted_only, methods=["POST"]) for p in self._service.served.routes),
            ],
            exception_handlers=dict.fromkeys((HTTPException, ClientDisconnect, Exception), refuse),
        )
        # A redirect would repeat the Host header of the request.
        app.router.redirect_slashes = False
        return app

    async def healthz(self, request: Request) -> Response:
        """The process lives."""
        return _json({"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        """The file reproduced its golden vectors on this machine.

        Answered without a token. The reason of a failure holds ids and paths, and is only in the
        answer to a request that may have every path.
        """
        served, failure = self._service.served, self._reloading.failure
        fault = served.fault
        if not self._service.authorization.allows_everything(request.scope):
            fault, failure = fault and _NO_SELFTEST, failure and _NO_RELOAD
        if fault is not None:
            raise Refused(503, fault)
        ready = {"status": "ready", "model_version": served.version}
        if failure is not None:
            ready["reload_failed"] = failure
        return _json(ready)

    async def model(self, request: Request) -> Response:
        """The metadata of the file."""
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
            return encode(served.titles.get().search(query, int(limit)))

        return await self._in_turn(search, request)

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        return Response(self._service.metrics.render(), media_type=metrics.CONTENT_TYPE)

    def collect(self) -> Iterator[Metric]:
        """What the service and its file are like now."""
        service, served = self._service, self._service.served
        info, log = served.recommender.info, service.access_log
        labels = {"version": served.version, "model": info.model, "profile": info.profile}
        model = GaugeMetricFamily(
            "attnrec_model_info", "The file that is served.", labels=[*labels]
        )
        model.add_metric([*labels.values()], 1)
        yield model
        n_listed, n_gone = self._reloading.n_unavailable, len(served.recommender.unavailable)
        for name, help_, value in (
            ("attnrec_model_loaded_seconds", "Since 1970.", served.loaded_at),
            ("attnrec_ready", "The file passed its self-test.", served.fault is None),
            ("attnrec_requests_waiting", "Taken, not answered.", service.workers.waiting),
            ("attnrec_queue_limit", "How many may wait.", service.limits.queue),
            (
                "attnrec_unread_bytes",
                "Bytes of answers that clients have not read yet.",
                service.connections.unread,
            ),
            ("attnrec_unavailable_items", "Items that the list takes out.", n_gone),
            (
                "attnrec_unavailable_ids_unknown",
                "Ids of the list that the file does not know.",
                n_listed - n_gone,
            ),
        ):
            yield GaugeMetricFamily(name, help_, float(value))
        dropped = 0 if log is None else log.dropped
        yield CounterMetricFamily(
            "attnrec_log_lines_dropped", "Log lines that no reader took in time.", float(dropped)
        )

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI document."""
        return Response(self._described(), media_type=JSON)

    def _described(self) -> bytes:
        """The document, made once for a file: it takes 10 ms."""
        served = self._service.served
        if self._description is None or self._description[0] != served.version:
            examples = served.recommender.recommend([], 2, exclude_seen=False).item_ids
            document = openapi.document(
                served.recommender.info,
                served.version,
                has_token=self._service.authorization.has_token,
                examples=examples if len(examples) == 2 else (),
            )
            self._description = served.version, encode(document)
        return self._description[1]

    async def reload(self, request: Request) -> Response:
        """Load the file again; only with the token."""
        if not self._service.authorization.has_token:
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
        content = await self._service.workers.run(call, state, is_short=False)
        return Response(content, media_type=JSON)


async def _posted_only(request: Request) -> Response:
    raise AssertionError("bodies are answered by Service")


def _json(content: object) -> Response:
    return Response(encode(content), media_type=JSON)
