"""Every door of the gateway."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from threading import Event as Flag
from typing import Any

import orjson
import structlog

from services.gateway import handlers, keys, metrics, pages, schemas
from services.gateway.domain.observation import Observation
from services.gateway.handlers import Arrival, Reading, Receipt, Taken
from services.gateway.keys import Keyring
from shared import clock
from shared.errors import AnswerlineError, Malformed, NotFound
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
from shared.runtime.waiting import Switchboard, poll
from shared.runtime.web import WebServer

log = structlog.get_logger()

IDLE_SECONDS = 0.5
WALLBOARD_SECONDS = 4 * 3600.0
STANDBY_SECONDS = 1.0
PRUNE_EVERY = 3600.0
KEEP_INTAKE = 90 * 86400.0
TEXT = ("text/plain", "application/x-ndjson", "application/json", "application/octet-stream")
CALLING = ("telephony",)
STAFF = ("agent", "supervisor")
WATCHING = ("supervisor", "metrics")
OVER = ("assigned", "ended", "abandoned", "released")


class GatewayCore:
    """What lives as long as the process."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.units = context.units
        self.settings = context.settings
        self.keyring = Keyring(context.units, context.settings.bootstrap_key()[0])
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
        counts = {
            "accepted": receipt.accepted,
            "duplicate": receipt.duplicate,
            "ignored": receipt.ignored,
            "rejected": len(taken.reading.rejected),
        }
        for result, count in counts.items():
            if count:
                metrics.INTAKE.labels(taken.door, result).inc(count)
        return receipt

    def today(self) -> float:
        """Since when the wallboard counts: midnight where the centre is, or four hours ago when that is earlier."""
        midnight = datetime.now(self.settings.zone).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        return min(midnight, clock.now() - WALLBOARD_SECONDS)


class GatewayService:
    name = "gateway"

    core = Bootstrap(GatewayCore)
    relay = RelayLoop()
    web = WebServer()
    routing = Client("routing")

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
        core.taken.clear()
        if worked := handlers.correlate(core.units):
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
        return self._take(request, "queue-log", handlers.read_queue_log(request.raw))

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
        return self._take(request, "ami", handlers.read_ami(request.raw, clock.now()))

    @endpoint("POST", "/v1/telephony/asterisk/dialplan", query=schemas.Source, answer=schemas.Receipt, roles=CALLING,
              takes=("application/json", "application/x-www-form-urlencoded"), tag="telephony")  # fmt: skip
    def post_dialplan(self, request: Request) -> Response:
        """One post of the dialplan's CURL(): call.arrived, call.answered or call.hangup, as JSON or form."""
        reading = handlers.read_dialplan(request.raw, request.header("Content-Type"), clock.now())
        arrived = bool(reading.observations) and reading.observations[0].kind == "arrived"
        return self._take(request, "dialplan", [reading], Arrival(new_id()) if arrived else None)

    def _take(self, request: Request, door: str, readings: Iterable[Reading], arrival: Arrival | None = None) -> Response:
        receipt = Receipt(0, 0, 0, [])
        for reading in readings:
            receipt += self.core.take(Taken(request.query["source"], door, reading, arrival))
        answer = {name: value for name, value in asdict(receipt).items() if value is not None}
        if receipt.rejected and not receipt.accepted + receipt.duplicate + receipt.ignored:
            raise Malformed(receipt.rejected[0]["reason"], **answer)
        return _json(answer)

    # Contacts

    @endpoint("POST", "/v1/contacts", body=schemas.NewContact, answer=schemas.ContactRef, status=201, roles=CALLING, tag="contacts")
    def post_contact(self, request: Request) -> dict[str, Any]:
        """Announce a contact that wants an agent. With your own `call` id, posting again finds the same contact."""
        body, id = request.body, new_id()
        call = body.get("call") or id
        told = Observation("api", "entered", f"api|entered|{call}", clock.now(), call=call, queue=body["queue"], caller=body.get("caller"))
        arrival = Arrival(id, body["channel"], body["required_skills"])
        return {"contact": self.core.take(Taken(body["source"], "contacts", Reading([told]), arrival)).contact}

    @endpoint("GET", "/v1/contacts/{id}", answer=schemas.Contact, roles=(*STAFF, *CALLING), tag="contacts")
    def get_contact(self, request: Request) -> dict[str, Any]:
        """A contact with its legs. `id` may be `<source>:<call id>`."""
        return self.routing.get_contact(contact_id=self._contact(request))

    @endpoint("POST", "/v1/contacts/{id}/assignment", query=schemas.Wait, answer=schemas.Assignment, roles=CALLING, tag="contacts")
    def post_assignment(self, request: Request) -> dict[str, Any]:
        """Whom to dial: waits up to `wait` seconds for an agent. A caller whose request breaks off is offered to nobody until it asks again."""
        contact = self._contact(request)

        def ask() -> dict[str, Any]:
            try:
                return self.routing.get_assignment(contact_id=contact)
            except NotFound:
                return self._not_routed(contact)

        with metrics.WAITING_REQUESTS.labels("assignment").track_inprogress():
            found = poll(
                self.core.board, request, contact, ask, lambda found: found["state"] in (*OVER, "observed"), lambda: self._left(contact)
            )
        return {name: value for name, value in found.items() if name != "address" or value}  # JSON_DECODE() would make "null" an address

    def _not_routed(self, contact: str) -> dict[str, Any]:
        """Either its arrival is still under way, or its queue is observed, or it arrived too long ago to be served."""
        blank = {"contact": contact, "state": "waiting", "queue": None, "agent": None, "name": None, "address": None}
        try:
            leg = self.routing.get_contact(contact_id=contact)["legs"][-1]
        except NotFound:
            return blank
        try:
            return self.routing.get_assignment(contact_id=contact)  # it may have arrived between the two questions
        except NotFound:
            return {**blank, "state": "observed", "queue": leg["queue"]}

    def _left(self, contact: str) -> None:
        try:
            self.routing.stop_waiting(contact_id=contact)
        except AnswerlineError as error:
            log.warning("could not tell routing that a caller stopped waiting", error=error.detail)

    @endpoint(
        "POST",
        "/v1/contacts/{id}/end",
        body=schemas.EndContact,
        answer=schemas.ContactRef,
        status=202,
        roles=(*CALLING, *STAFF),
        tag="contacts",
    )
    def post_end(self, request: Request) -> dict[str, Any]:
        """The contact is over: the caller or the agent hung up."""
        contact = self._contact(request)
        source, call = handlers.call_of(self.core.units, contact)
        told = Observation("api", "hung_up", f"api|hung_up|{contact}", clock.now(), call=call, reason=request.body["ended_by"])
        self.core.take(Taken(source, "contacts", Reading([told])))
        return {"contact": contact}

    def _contact(self, request: Request) -> str:
        return handlers.find_contact(self.core.units, request.parameters["id"])

    # Agents, queues, offers

    @endpoint("PUT", "/v1/queues/{name}", body=schemas.Queue, answer=schemas.Queue, roles=("supervisor",), tag="queues")
    def put_queue(self, request: Request) -> dict[str, Any]:
        """Create or change a queue: observed (a PBX distributes) or routed (we do)."""
        return self.routing.put_queue(queue={"name": request.parameters["name"], **request.body})

    @endpoint("GET", "/v1/queues/{name}", answer=schemas.Queue, roles=STAFF, tag="queues")
    def get_queue(self, request: Request) -> dict[str, Any]:
        """A queue's settings."""
        return self.routing.get_queue(name=request.parameters["name"])

    @endpoint("PUT", "/v1/agents/{id}", body=schemas.Agent, answer=schemas.Agent, roles=("supervisor",), tag="agents")
    def put_agent(self, request: Request) -> dict[str, Any]:
        """Create or change an agent's profile; state and contacts stay."""
        return self.routing.put_agent(agent_id=request.parameters["id"], profile=request.body)

    @endpoint("GET", "/v1/agents/{id}", answer=schemas.Agent, roles=STAFF, tag="agents")
    def get_agent(self, request: Request) -> dict[str, Any]:
        """An agent's profile and state."""
        return self.routing.get_agent(agent_id=request.parameters["id"])

    @endpoint("PUT", "/v1/agents/{id}/state", body=schemas.AgentState, answer=schemas.Agent, roles=STAFF, tag="agents")
    def put_agent_state(self, request: Request) -> dict[str, Any]:
        """Sign in (available), pause with a reason, sign out (offline). In wrap-up, any state ends it."""
        return self.routing.set_agent_state(agent_id=request.parameters["id"], **request.body)

    @endpoint("GET", "/v1/agents/{id}/offers", query=schemas.Wait, roles=STAFF, tag="agents")
    def get_offers(self, request: Request) -> dict[str, Any]:
        """What the agent is asked to take, waiting up to `wait` seconds for it."""
        agent = request.parameters["id"]
        with metrics.WAITING_REQUESTS.labels("offers").track_inprogress():
            offers = poll(self.core.board, request, agent, lambda: self.routing.agent_offers(agent_id=agent), bool, lambda: None)
        return {"offers": offers}

    @endpoint("POST", "/v1/offers/{id}/accept", body=schemas.AcceptOffer, roles=STAFF, tag="agents")
    def post_accept(self, request: Request) -> dict[str, Any]:
        """Take the contact."""
        return self.routing.accept_offer(offer_id=request.parameters["id"], agent_id=request.body["agent"])

    @endpoint("POST", "/v1/offers/{id}/reject", body=schemas.RejectOffer, roles=STAFF, tag="agents")
    def post_reject(self, request: Request) -> dict[str, Any]:
        """Let the contact go on to somebody else."""
        return self.routing.reject_offer(offer_id=request.parameters["id"], agent_id=request.body["agent"], reason=request.body["reason"])

    # Reports

    @endpoint("GET", "/v1/reports/queues", query=schemas.Period, answer=schemas.Report, roles=WATCHING, tag="reports")
    def get_queue_report(self, request: Request) -> dict[str, Any]:
        """Per queue: offered, answered, abandoned and the rest, with what is uncertain named."""
        return self.routing.report_queues(filters=_filters(request), deadline=10)

    @endpoint("GET", "/v1/reports/agents", query=schemas.Period, answer=schemas.Report, roles=WATCHING, tag="reports")
    def get_agent_report(self, request: Request) -> dict[str, Any]:
        """Per agent: answered, talk seconds, rings not answered."""
        return self.routing.report_agents(filters=_filters(request), deadline=10)

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
        return _json(documents.openapi(GatewayService))

    @endpoint("GET", "/asyncapi.json", public=True, tag="operation")
    def get_asyncapi(self, _request: Request) -> Response:
        """The events as an AsyncAPI 3 document."""
        return _json(documents.asyncapi())

    @endpoint("GET", "/docs", public=True, gives="text/html", tag="pages")
    def get_docs(self, _request: Request) -> Response:
        """The API for reading."""
        return pages.docs()


def _filters(request: Request) -> dict[str, Any]:
    query = request.query
    return {"from": query.get("since"), "to": query.get("until"), "source": query.get("source")}


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value, default=str))
