"""The gateway: what lives as long as the process, its loops, the events it hears, and its doors: those of doors/, and here the pages and
what tells of the installation itself."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from threading import Event as Flag
from typing import Any

import structlog

from services.gateway import audit, customers, erasures, handlers, imports, metrics, pages, promises, schemas, stream_log, twilio_api
from services.gateway.accounts import Accounts
from services.gateway.contract import ABOUT
from services.gateway.courier import Courier
from services.gateway.doors import as_json
from services.gateway.doors.access import AccessDoors
from services.gateway.doors.agents import AgentDoors
from services.gateway.doors.asterisk import AsteriskDoors
from services.gateway.doors.chats import ChatDoors
from services.gateway.doors.contacts import ContactDoors
from services.gateway.doors.escalations import EscalationDoors
from services.gateway.doors.events import EventDoors
from services.gateway.doors.freeswitch import FreeswitchDoors
from services.gateway.doors.freeswitch_routed import FreeswitchRoutedDoors
from services.gateway.doors.imports import ImportDoors
from services.gateway.doors.people import PeopleDoors
from services.gateway.doors.quality import QualityDoors
from services.gateway.doors.recordings import RecordingDoors
from services.gateway.doors.reports import ReportDoors
from services.gateway.doors.sources import SourceDoors
from services.gateway.doors.stream import StreamDoors
from services.gateway.doors.supervision import SupervisionDoors
from services.gateway.doors.training import TrainingDoors
from services.gateway.doors.twilio import TwilioDoors
from services.gateway.doors.twilio_routed import TwilioRoutedDoors
from services.gateway.doors.webhooks import WebhookDoors
from services.gateway.handlers import Receipt, Taken
from services.gateway.idempotency import Memory
from services.gateway.keys import Keyring
from services.gateway.oidc import Provider
from services.gateway.schemas import answers
from services.gateway.scopes import Scopes
from services.gateway.sealing import Sealer
from services.gateway.sources import Register
from services.gateway.stream import Stream
from shared import clock
from shared.bus.envelope import Event
from shared.bus.outbox import Work
from shared.errors import Unavailable
from shared.http import documents
from shared.http.address import Proxies
from shared.http.endpoint import Principal, Response, endpoint
from shared.http.wsgi import Request
from shared.observability import health
from shared.runtime import outbound
from shared.runtime.bootstrap import Bootstrap
from shared.runtime.context import Context
from shared.runtime.group import GroupCommit
from shared.runtime.heavy import off_the_hub
from shared.runtime.loops import RelayLoop, consumes, continuously, hears
from shared.runtime.rpc import Client
from shared.runtime.waiting import Switchboard
from shared.runtime.web import WebServer

log = structlog.get_logger()

IDLE_SECONDS = 0.5
WALLBOARD_SECONDS = 4 * 3600.0
STANDBY_SECONDS = 1.0
FIGURES_EVERY = 0.3
COMMAND_SECONDS = 1.0
RESUME_SECONDS = 30.0
ERASE_PAUSE = 0.01
HOURLY = 3600.0
FORGET_SECONDS = 1.0
PRESENT_EVERY = 15.0
KEEP_INTAKE = 90 * 86400.0


class GatewayCore:
    """What lives as long as the process."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.units = context.units
        self.settings = context.settings
        self.metrics = metrics.GatewayMetrics(context.database)
        self.accounts = Accounts(context.units, off_the_hub)
        self.keyring = Keyring(context.units, context.settings.bootstrap_key()[0], self.accounts.authenticate)
        self.provider = Provider(context.settings, outbound.send) if context.settings.oidc_issuer else None
        self.proxies = Proxies(context.settings.proxies)
        self.sealer = Sealer(context.settings.sealing_keys())
        self.scopes = Scopes()
        self.sources = Register(context.units, self.sealer)
        self.memory = Memory(context.units, self.sealer, clock.now() if context.settings.embedded else 0.0)
        self.board = Switchboard()
        self.stream = Stream(context.units, self.scopes, self.board)
        self.taken = Flag()
        self.begun = context.settings.embedded  # then routing began anew with us, and knows
        self.expire_at = self.forget_at = clock.monotonic() + HOURLY
        self.intake: GroupCommit[Taken, Receipt] = GroupCommit(self._take_in, most=100)
        self.courier = Courier(context.units, self.sealer, context.settings.webhook_allowance, outbound.post, outbound.aside)

    def caller_ref(self, number: str, country: str) -> str:
        """By what routing knows a caller with this number again; "" where it must not (see customers.refs_of)."""
        with self.units.database.reading() as connection:
            refs = customers.refs_of(connection, [number], country or self.settings.home_country, self.sealer.mark)
        return refs.get(number, "")

    def _take_in(self, posts: Sequence[Taken]) -> list[Receipt]:
        receipts = handlers.take_in(self.units, posts)
        self.taken.set()
        return receipts

    def take(self, taken: Taken) -> Receipt:
        """Returns when the post is durable."""
        self.sources.require(taken.source)
        receipt = self.intake.submit(taken)
        metrics.count_intake(taken, receipt)
        return receipt

    def take_all(self, posts: Sequence[Taken]) -> list[Receipt]:
        """Returns when all the posts are durable, in one transaction."""
        for taken in posts:
            self.sources.require(taken.source)
        receipts = self._take_in(posts)
        for taken, receipt in zip(posts, receipts, strict=True):
            metrics.count_intake(taken, receipt)
        return receipts

    def close(self) -> None:
        self.courier.close()
        self.metrics.close()

    def today(self) -> float:
        """Since when the wallboard counts: midnight where the centre is, or four hours ago when that is earlier."""
        midnight = datetime.now(self.settings.zone).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        return min(midnight, clock.now() - WALLBOARD_SECONDS)


class GatewayService(
    AccessDoors,
    PeopleDoors,
    AsteriskDoors,
    TwilioRoutedDoors,
    FreeswitchRoutedDoors,
    ContactDoors,
    AgentDoors,
    SupervisionDoors,
    ReportDoors,
    FreeswitchDoors,
    SourceDoors,
    TwilioDoors,
    EventDoors,
    StreamDoors,
    WebhookDoors,
    RecordingDoors,
    ImportDoors,
    EscalationDoors,
    QualityDoors,
    ChatDoors,
    TrainingDoors,
):
    name = "gateway"

    core = Bootstrap(GatewayCore)
    relay = RelayLoop()
    web = WebServer()
    routing = Client("routing")
    im = Client("im")
    training = Client("training")
    qa = Client("qa")

    def authenticate(self, environ: Mapping[str, Any]) -> Principal | None:
        return self.core.keyring.authenticate(environ)

    observe = staticmethod(metrics.observe)

    @property
    def memory(self) -> Memory:
        return self.core.memory

    # Loops

    @continuously
    def correlate(self) -> None:
        """Pending observations become contacts; one process at a time does it."""
        core = self.core
        if not core.context.lease.acquire():
            time.sleep(STANDBY_SECONDS)
            return
        if clock.monotonic() > core.expire_at:
            core.expire_at = clock.monotonic() + HOURLY
            if ended := handlers.expire(core.units):
                log.warning("contacts of which nothing was heard for a day count as over", count=ended)
        core.taken.clear()
        if worked := handlers.correlate(core.units, core.settings.home_country, core.sealer.mark):
            metrics.CORRELATED.inc(worked)
            time.sleep(0)
        else:
            core.taken.wait(IDLE_SECONDS)

    @continuously(every=FORGET_SECONDS)
    def forget_old(self) -> None:
        """What was kept long enough goes, once an hour, a slice of each table at a time."""
        core = self.core
        if clock.monotonic() < core.forget_at or not core.context.lease.acquire():
            return
        now = clock.now()
        more = [
            handlers.prune(core.units, now - KEEP_INTAKE),
            audit.prune(core.units, now - core.settings.audit_seconds),
            stream_log.prune(core.units, now - core.settings.stream_seconds),
        ]
        if not any(more):
            core.accounts.prune()
            core.memory.prune()
            core.forget_at = clock.monotonic() + HOURLY

    @continuously(every=STANDBY_SECONDS)
    def begin_anew(self) -> None:
        """Telephony that asked us whom to dial lost its connection when we ended: until it asks again, nobody is offered its callers."""
        if not self.core.begun:
            self.routing.ask_anew()
            self.core.begun = True

    @continuously
    def deliver_webhooks(self) -> None:
        """What webhooks are owed is sent; the process that correlates does it."""
        core = self.core
        if not core.context.lease.acquire():
            core.courier.rest()
            time.sleep(STANDBY_SECONDS)
        elif core.courier.step():
            time.sleep(0)
        else:
            core.courier.wait(IDLE_SECONDS)

    @continuously(every=RESUME_SECONDS)
    def resume_imports(self) -> None:
        """What was accepted is written, whatever ended meanwhile."""
        if self.core.context.lease.acquire():
            imports.resume(self.core.units, self.kind_of)

    @continuously(every=COMMAND_SECONDS)
    def command_twilio(self) -> None:
        """Recordings of sources at Twilio are paused and resumed by asking Twilio."""
        if self.core.context.lease.acquire():
            allowance = self.core.settings.webhook_allowance
            twilio_api.obey(self.core.units, self.core.sources, allowance, outbound.post, outbound.Unreachable, self.core.board.ring)

    @continuously(every=STANDBY_SECONDS)
    def keep_promises(self) -> None:
        """Callbacks that agents promised are booked."""
        if self.core.context.lease.acquire():
            promises.keep(self.core.units, self.book_callback)

    @continuously(every=STANDBY_SECONDS)
    def forget_customers(self) -> None:
        """What is left of customers who were forgotten is looked for."""
        while self.core.context.lease.acquire() and erasures.step(self.core.units):
            time.sleep(ERASE_PAUSE)

    def book_callback(self, contact: str, number: str) -> None:
        self.routing.promise_callback(contact_id=contact, number=number, caller_ref=self.core.caller_ref(number, ""))

    @continuously(every=PRESENT_EVERY)
    def tell_presence(self) -> None:
        """Whoever listens is there, for the questions that go to experts."""
        if people := self.core.stream.people():
            with suppress(Unavailable):
                self.im.heartbeat(people=people)

    @hears("routing.#")
    def on_routing_news(self, body: Any) -> None:
        self.core.board.hear(body)
        self.core.stream.wake()

    # Events

    @consumes
    def on_events(self, work: Work, events: list[Event]) -> None:
        """All that happens goes into the log that streams and webhooks read."""
        self.core.stream.write(work, events)
        promises.note(work, events)

    @continuously
    def tell_listeners(self) -> None:
        self.core.stream.step()

    @continuously(every=FIGURES_EVERY)
    def tell_figures(self) -> None:
        self.core.stream.live.step(lambda: self.routing.report_live(since=self.core.today()))

    # The live page

    @endpoint("GET", "/", public=True, gives="text/html", tag="pages")
    def get_page(self, _request: Request) -> Response:
        """The wallboard."""
        return pages.wallboard()

    @endpoint("GET", "/static/{name}", public=True, gives="text/css", gives_also=("text/javascript", "image/svg+xml"), tag="pages")
    def get_static(self, request: Request) -> Response:
        """Style and script of the pages."""
        return pages.static(request.parameters["name"])

    # About this installation

    @endpoint("GET", "/livez", answer=answers.Alive, public=True, tag="operation")
    def get_livez(self, _request: Request) -> dict[str, Any]:
        """Whether the process lives."""
        return {"status": "ok"}

    @endpoint("GET", "/readyz", query=schemas.Readiness, answer=answers.Ready, answers={503: answers.Ready}, public=True, tag="operation")
    def get_readyz(self, request: Request) -> Response:
        """Whether the service can work: database and broker. With `without=broker`, whether it takes in what telephony tells: that is kept
        while the broker is away, so this is what a proxy or an orchestrator before the gateway should ask."""
        return health.ready(self.core.context.neighbours, request.query["without"])

    @endpoint("GET", "/metrics", public=True, answers={401: None, 403: None}, gives="text/plain", tag="operation")
    def get_metrics(self, request: Request) -> Response:
        """Prometheus metrics; a key with the role `metrics` is needed where others than this machine can ask."""
        self.require_watcher(request)
        return health.metrics()

    @endpoint("GET", "/openapi.json", answer=answers.AnyDocument, public=True, tag="operation")
    def get_openapi(self, _request: Request) -> Response:
        """This API as an OpenAPI 3.1 document."""
        return as_json(documents.openapi(GatewayService, ABOUT, self.core.settings.public_address or "/"))

    @endpoint("GET", "/asyncapi.json", answer=answers.AnyDocument, public=True, tag="operation")
    def get_asyncapi(self, _request: Request) -> Response:
        """The events as an AsyncAPI 3 document."""
        return as_json(documents.asyncapi())

    @endpoint("GET", "/docs", public=True, gives="text/html", tag="pages")
    def get_docs(self, _request: Request) -> Response:
        """The API for reading."""
        return pages.docs()
