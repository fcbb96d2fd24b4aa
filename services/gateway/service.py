"""Every door of the gateway: those of doors/, and here telephony's, keys, pages and what tells of the installation itself."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from threading import Event as Flag
from typing import Any

import structlog

from services.gateway import handlers, keys, metrics, pages, schemas
from services.gateway.doors import CALLING, WATCHING, as_json
from services.gateway.doors.agents import AgentDoors
from services.gateway.doors.contacts import ContactDoors
from services.gateway.doors.escalations import EscalationDoors
from services.gateway.doors.events import EventDoors
from services.gateway.doors.freeswitch import FreeswitchDoors
from services.gateway.doors.reports import ReportDoors
from services.gateway.doors.sources import SourceDoors
from services.gateway.doors.supervision import SupervisionDoors
from services.gateway.doors.twilio import TwilioDoors
from services.gateway.handlers import Arrival, Receipt, Taken
from services.gateway.keys import Keyring
from services.gateway.sources import Register
from shared import clock
from shared.http import documents
from shared.http.endpoint import LARGE, Principal, Response, endpoint
from shared.http.wsgi import Request, require
from shared.ids import new_id
from shared.observability import health
from shared.runtime.bootstrap import Bootstrap
from shared.runtime.context import Context
from shared.runtime.group import GroupCommit
from shared.runtime.loops import RelayLoop, continuously, hears
from shared.runtime.rpc import Client
from shared.runtime.waiting import Switchboard
from shared.runtime.web import WebServer

log = structlog.get_logger()

IDLE_SECONDS = 0.5
WALLBOARD_SECONDS = 4 * 3600.0
STANDBY_SECONDS = 1.0
PRUNE_EVERY = 3600.0
KEEP_INTAKE = 90 * 86400.0
TEXT = ("text/plain", "application/x-ndjson", "application/json", "application/octet-stream")


class GatewayCore:
    """What lives as long as the process."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.units = context.units
        self.settings = context.settings
        self.keyring = Keyring(context.units, context.settings.bootstrap_key()[0])
        self.sources = Register(context.units)
        self.board = Switchboard()
        self.taken = Flag()
        self.prune_at = clock.monotonic() + PRUNE_EVERY
        self.intake: GroupCommit[Taken, Receipt] = GroupCommit(self._take_in, most=100)

    def _take_in(self, posts: Sequence[Taken]) -> list[Receipt]:
        receipts = handlers.take_in(self.units, posts)
        self.taken.set()
        return receipts

    def take(self, taken: Taken) -> Receipt:
        """Returns when the post is durable."""
        receipt = self.intake.submit(taken)
        metrics.count_intake(taken.door, receipt)
        return receipt

    def take_all(self, posts: Sequence[Taken]) -> list[Receipt]:
        """Returns when all the posts are durable, in one transaction."""
        receipts = self._take_in(posts)
        for taken, receipt in zip(posts, receipts, strict=True):
            metrics.count_intake(taken.door, receipt)
        return receipts

    def today(self) -> float:
        """Since when the wallboard counts: midnight where the centre is, or four hours ago when that is earlier."""
        midnight = datetime.now(self.settings.zone).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        return min(midnight, clock.now() - WALLBOARD_SECONDS)


class GatewayService(
    ContactDoors, AgentDoors, SupervisionDoors, ReportDoors, FreeswitchDoors, SourceDoors, TwilioDoors, EventDoors, EscalationDoors
):
    name = "gateway"

    core = Bootstrap(GatewayCore)
    relay = RelayLoop()
    web = WebServer()
    routing = Client("routing")
    im = Client("im")

    def authenticate(self, environ: Mapping[str, Any]) -> Principal | None:
        return self.core.keyring.authenticate(environ)

    observe = staticmethod(metrics.observe)

    # Loops

    @continuously
    def correlate(self) -> None:
        """Pending observations become contacts; one process at a time does it."""
        core = self.core
        if not core.context.lease.acquire():
            time.sleep(STANDBY_SECONDS)
            return
        if clock.monotonic() > core.prune_at:
            core.prune_at = clock.monotonic() + PRUNE_EVERY
            handlers.prune(core.units, clock.now() - KEEP_INTAKE)
            if ended := handlers.expire(core.units):
                log.warning("contacts of which nothing was heard for a day count as over", count=ended)
        core.taken.clear()
        if worked := handlers.correlate(core.units, core.settings.home_country):
            metrics.CORRELATED.inc(worked)
            time.sleep(0)
        else:
            core.taken.wait(IDLE_SECONDS)

    @hears("routing.#")
    def on_routing_news(self, body: Any) -> None:
        self.core.board.hear(body)

    # Telephony systems

    @endpoint(
        "POST",
        "/v1/telephony/asterisk/queue-log",
        query=schemas.Source,
        answer=schemas.Receipt,
        roles=CALLING,
        limit=LARGE,
        takes=TEXT,
        tag="telephony",
    )
    def post_queue_log(self, request: Request) -> Response:
        """Lines of Asterisk's queue_log, any number at once; lines posted before change nothing."""
        return self.take(request, "queue-log", handlers.read_queue_log(request.raw))

    @endpoint(
        "POST",
        "/v1/telephony/asterisk/ami",
        query=schemas.Source,
        answer=schemas.Receipt,
        roles=CALLING,
        limit=LARGE,
        takes=TEXT,
        tag="telephony",
    )
    def post_ami(self, request: Request) -> Response:
        """Messages of Asterisk's manager interface: the bytes of a session, or JSON lines."""
        return self.take(request, "ami", handlers.read_ami(request.raw, clock.now()))

    @endpoint(
        "POST",
        "/v1/telephony/asterisk/ari",
        query=schemas.Source,
        answer=schemas.Receipt,
        roles=CALLING,
        limit=LARGE,
        takes=TEXT,
        tag="telephony",
    )
    def post_ari(self, request: Request) -> Response:
        """Events of Asterisk's REST interface as they came over its websocket: one object, an array, or JSON lines. A line may be
        {"recv": epoch, "ari": {…}}, or {"recv": epoch, "channels": […]}: all that GET /ari/channels answered then."""
        return self.take(request, "ari", handlers.read_ari(request.raw, clock.now()))

    @endpoint("POST", "/v1/telephony/asterisk/dialplan", query=schemas.Source, answer=schemas.Receipt, roles=CALLING,
              takes=("application/json", "application/x-www-form-urlencoded"), tag="telephony")  # fmt: skip
    def post_dialplan(self, request: Request) -> Response:
        """One post of the dialplan's CURL(): call.arrived, call.answered or call.hangup, as JSON or form. An arrival may name its `customer`."""
        zone = self.core.sources.get(request.query["source"]).zone
        reading = handlers.read_dialplan(request.raw, request.header("Content-Type"), clock.now(), zone)
        arrived = bool(reading.observations) and reading.observations[0].kind == "arrived"
        wishes = {"customer": reading.customer} if reading.customer else {}
        return self.take(request, "dialplan", [reading], Arrival(new_id(), wishes=wishes) if arrived else None)

    # Keys

    @endpoint("POST", "/v1/keys", body=schemas.NewKey, status=201, roles=("admin",), tag="keys")
    def post_key(self, request: Request) -> dict[str, Any]:
        """Make an API key; it is shown this once."""
        return keys.create(self.core.units, request.body["name"], request.body["roles"])

    @endpoint("DELETE", "/v1/keys/{id}", status=204, roles=("admin",), tag="keys")
    def delete_key(self, request: Request) -> None:
        """Revoke a key."""
        keys.revoke(self.core.units, request.parameters["id"])

    # The live page

    @endpoint("GET", "/", public=True, gives="text/html", tag="pages")
    def get_page(self, _request: Request) -> Response:
        """The wallboard."""
        return pages.wallboard()

    @endpoint("GET", "/static/{name}", public=True, gives="text/plain", tag="pages")
    def get_static(self, request: Request) -> Response:
        """Style and script of the pages."""
        return pages.static(request.parameters["name"])

    @endpoint("GET", "/v1/stream", query=schemas.Stream, public=True, gives="text/event-stream", tag="pages")
    def get_stream(self, request: Request) -> Response:
        """Server-sent events. Topic `live`: the wallboard's figures, whenever they changed, at most four times a second."""
        self._require_watcher(request)
        return pages.stream(self.core.board, lambda: self.routing.report_live(since=self.core.today()), request)

    def _require_watcher(self, request: Request) -> None:
        forwarded = bool(request.header("X-Forwarded-For") or request.header("Forwarded"))
        if not self.core.settings.watching_is_public(forwarded):
            require(self.authenticate(request.environ), WATCHING)

    # About this installation

    @endpoint("GET", "/livez", public=True, tag="operation")
    def get_livez(self, _request: Request) -> dict[str, Any]:
        """Whether the process lives."""
        return {"status": "ok"}

    @endpoint("GET", "/readyz", public=True, tag="operation")
    def get_readyz(self, _request: Request) -> Response:
        """Whether the service can work: database and broker."""
        return health.ready(self.core.context.neighbours)

    @endpoint("GET", "/metrics", public=True, gives="text/plain", tag="operation")
    def get_metrics(self, request: Request) -> Response:
        """Prometheus metrics; a key with the role `metrics` is needed where others than this machine can ask."""
        self._require_watcher(request)
        return health.metrics()

    @endpoint("GET", "/openapi.json", public=True, tag="operation")
    def get_openapi(self, _request: Request) -> Response:
        """This API as an OpenAPI 3.1 document."""
        return as_json(documents.openapi(GatewayService))

    @endpoint("GET", "/asyncapi.json", public=True, tag="operation")
    def get_asyncapi(self, _request: Request) -> Response:
        """The events as an AsyncAPI 3 document."""
        return as_json(documents.asyncapi())

    @endpoint("GET", "/docs", public=True, gives="text/html", tag="pages")
    def get_docs(self, _request: Request) -> Response:
        """The API for reading."""
        return pages.docs()
