"""HTTP on one connection: bounds on slow and huge clients, which uvicorn does not set."""

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from attnrec.runtime.serving.connections import WRITE_BUFFER, WRITE_SECONDS, JoinedWrites
from attnrec.runtime.serving.errors import (
    ARRIVED,
    GONE,
    LATE,
    PROBLEM_JSON,
    TARGET,
    problem_of,
)

if TYPE_CHECKING:
    from attnrec.runtime.serving.app import Service

READ_SECONDS = 5
"""In which the head of a request has to arrive, and then its body."""
LARGEST_HEAD = 65536
"""Bytes of the path and the headers of a request."""
MOST_HEADERS = 256
"""Each takes about 200 bytes of memory, however short it is."""
_PART = 4096
"""Bytes parsed at a time; those behind an unfinished request are kept unparsed."""


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection on which a head or a body does not come, is large, or is not read."""

    _late: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _head = 0
    _in_head = False
    _in_body = False
    _held = False
    _unparsed = memoryview(b"")
    _fault: HTTPStatus | None = None
    """Of the last request read here; sent when the requests before it have their answers."""
    _reading: RequestResponseCycle | None = None

    @property
    def _service(self) -> "Service":
        return cast("Service", self.app)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        super().connection_made(cast(asyncio.Transport, JoinedWrites(transport)))
        self.flow = _Flow(self.transport)
        shared = self._service.connections
        if len(self.connections) > shared.most and not shared.make_room():
            detail = (
                f"{shared.most} connections are open already; try again soon, or close some "
                "that are not used"
            )
            self._refuse(503, detail, wait=1)
            return
        # A proxy opens connections in advance: an unused one counts as idle.
        self._rest()

    @property
    def is_behind(self) -> bool:
        """Whether what came last belongs to a request behind one that has no answer yet."""
        return bool(self.pipeline) or (self._in_head and self._is_asked)

    @property
    def _is_asked(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._service.connections.is_used(self)
        self._unset_keepalive_if_required()
        self._unparsed = memoryview(bytes(self._unparsed) + data)
        in_body = self._in_body
        while self._unparsed and not self.is_behind and not self.transport.is_closing():
            part, self._unparsed = self._unparsed[:_PART], self._unparsed[_PART:]
            self._head += len(part)
            self._feed(part)
        if self.transport.is_closing():
            return
        if self.is_behind:  # what comes now waits in the system for the answers before it
            self._stop_waiting()
            self.flow.pause_reading()
        elif self._is_asked:  # the head is here
            self._wait_for_body(self.cycle)
        elif self._in_body:  # of a request that has had its answer
            self._head = 0
        elif in_body and not self._in_head:  # that body is here
            self._stop_waiting()
            self._rest()
        elif self._head > LARGEST_HEAD or len(self.headers or ()) > MOST_HEADERS:
            self._refuse_head()
        elif self._late is None:
            self._close_if_late()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][ARRIVED] = time.perf_counter()
        self._in_head = True

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():  # comes again without the offer
            return
        # A large head may have come in one piece, with a body behind it.
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > LARGEST_HEAD or len(self.headers) > MOST_HEADERS:
            self._fault = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise httptools.HttpParserError("a large head")  # ends the parsing
        self._in_head, self._in_body = False, True
        if not self.url.startswith(b"/") and b"://" in self.url:  # the form for proxies
            authority = self.url.partition(b"://")[2].partition(b"/")[0]
            self.scope["state"][TARGET] = [authority]
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            self._in_body = False
            super().on_message_complete()

    def on_response_complete(self) -> None:
        cast(JoinedWrites, self.transport).flush()
        if self.flow.write_paused and not self.transport.is_closing():
            self._held = True  # the next request is taken when this answer has been read
            return
        super().on_response_complete()
        if self.timeout_keep_alive_task is None:  # it is closed, or the next request begins
            self._go_on()
        elif self._in_head or self._in_body:  # more of this one, or of the next, is to come
            self._unset_keepalive_if_required()
            self._stop_waiting()
            self._close_if_late()
            self._go_on()
        else:
            self._service.connections.rests(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.flow.pause_reading()
        self._service.connections.waits_for_reader(self, waits=True)
        self._unread = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_waiting_for_reader()
        if self._held:
            self._held = False
            self.on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn does so only where there was no error
        self._stop_waiting()
        self._stop_waiting_for_reader()
        self._service.connections.is_used(self)
        if self.scope is not None:
            self.scope["state"][GONE] = True

    def unread(self) -> int:
        """Bytes that the client has not read."""
        return self.transport.get_write_buffer_size()

    def close_idle(self) -> None:
        """Close it; nothing is being answered."""
        self._unset_keepalive_if_required()
        self.transport.close()

    def _close_if_late(self) -> None:
        self._late = self.loop.call_later(READ_SECONDS, self.transport.close)

    def _rest(self) -> None:
        self._service.connections.rests(self)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _go_on(self) -> None:
        """Parse the bytes behind a request that has its answer now."""
        if self._fault is not None:
            self._refuse_fault()
        else:
            self.flow.resume_reading()
            self.data_received(b"")

    def _feed(self, rest: memoryview) -> None:
        """Parse bytes; offers of other protocols (h2c, websocket) are passed over."""
        try:
            while True:
                try:
                    self.parser.feed_data(rest)
                    return
                except httptools.HttpParserUpgrade as offer:
                    rest = rest[offer.args[0] :]
                    self._pass_over_offer()
        except httptools.HttpParserError:
            self._fault = self._fault or HTTPStatus.BAD_REQUEST
            self._in_head = not self._in_body
            self._unparsed = memoryview(b"")
            self._refuse_fault()

    def _pass_over_offer(self) -> None:
        """Parse the head again without its `Upgrade`: else the parser looks for no body."""
        method = self.parser.get_method()
        if method == b"CONNECT":  # what follows is for another machine
            raise httptools.HttpParserError("no proxy")
        head = b"%b %b HTTP/%b\r\n" % (
            method, self.url, self.parser.get_http_version().encode(),
        )  # fmt: skip
        for name, value in self.headers:
            if name != b"upgrade":
                head += b"%b: %b\r\n" % (name, value)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(head + b"\r\n")

    def _wait_for_body(self, cycle: RequestResponseCycle) -> None:
        """The whole body has to arrive in READ_SECONDS, however it is cut into parts."""
        if self._late is None or self._reading is not cycle or not cycle.more_body:
            self._stop_waiting()
            self._reading = cycle
            if cycle.more_body:
                self._late = self.loop.call_later(READ_SECONDS, self._give_up_body, cycle)

    def _give_up_body(self, cycle: RequestResponseCycle) -> None:
        """Let the application refuse."""
        cycle.scope["state"][LATE] = True
        cycle.message_event.set()

    def _stop_waiting(self) -> None:
        self._head = 0
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _stop_waiting_for_reader(self) -> None:
        self._service.connections.waits_for_reader(self, waits=False)
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _refuse_fault(self) -> None:
        if self.is_behind or self.transport.is_closing():
            return
        if self._fault == HTTPStatus.BAD_REQUEST:
            self.send_400_response("Invalid HTTP request received.")
        else:
            self._refuse_head()

    def _refuse_head(self) -> None:
        detail = (
            f"path and headers are larger than {LARGEST_HEAD} bytes, or more than "
            f"{MOST_HEADERS} headers; send less"
        )
        self._refuse(431, detail)

    def _refuse(self, status: int, detail: str, wait: int | None = None) -> None:
        """Answer without an application, and close."""
        members: dict[str, Any] = {"limit": LARGEST_HEAD} if status == 431 else {}
        body = problem_of(status, detail, **members)
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {PROBLEM_JSON}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n"
        )
        if wait is not None:
            head += f"retry-after: {wait}\r\n"
        self._service.count_refusal(status, len(body))
        self.transport.write(head.encode() + b"\r\n" + body)
        self.transport.close()


class _Flow(FlowControl):
    """Reads nothing more while a request waits for the answer to an earlier one."""

    def resume_reading(self) -> None:
        protocol = self._transport.get_protocol()  # kept there: no cycle that holds a connection
        if not (isinstance(protocol, BoundedProtocol) and protocol.is_behind):
            super().resume_reading()
