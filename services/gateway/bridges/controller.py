"""Calls put through: the customer is held by the PBX, Answerline says whom to ask, the agent's telephone rings, and the two are connected.

`Call` is one customer's way, pure: what is heard goes in, what is to be done comes out, whatever the order. `Control` runs it for all
calls, with threads that ask Answerline, over a `Switch`: a PBX that can ring, connect and hang up.

An offer is answered by the agent's telephone: who picks it up has accepted, who does not has missed it. Whose program accepts instead is
rung as well. The channel of an agent is named after the offer, so that after a break of either side nothing is dialled twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import quote, urlencode

import orjson
import structlog

from services.gateway.bridges.kernel import Answer, Client, Pauses, Where
from shared import clock

log = structlog.get_logger()

LEG = "answerline-"
WAIT_SECONDS = 0.8
ANSWER_SECONDS = 1.5
"""Whatever is not answered by then sends the customer to the PBX's own queue, which is to have them within 2 s."""
PULSE_SECONDS = 0.3
SILENT_SECONDS = 0.8
SETTLE_SECONDS = 0.2
"""What we say reaches Answerline a moment later; what it said before is not asked for again and again meanwhile."""
FIRST_WORDS_SECONDS = 5.0
EVERY_SECONDS = 60.0
REPORT_TRIES = 12
"""Of what came of a call, over some minutes."""
WORKERS = 8
NOT_FOUND = 404

Why = Literal["no_answer", "busy", "unavailable"]
CAUSES: Mapping[int, Why] = {17: "busy", 18: "no_answer", 19: "no_answer", 21: "busy"}
"""Q.850: why an agent's channel ended."""
Found = Mapping[str, Any]


# ---- what is to be done


@dataclass(frozen=True)
class Ring:
    leg: str
    address: str


@dataclass(frozen=True)
class HangUp:
    leg: str


@dataclass(frozen=True)
class Connect:
    leg: str


@dataclass(frozen=True)
class Announce:
    found: Found


@dataclass(frozen=True)
class Leave:
    """The customer goes back to the PBX: `fallback` to its own queue, or for what Answerline says (closed, callback, answered)."""

    how: str


@dataclass(frozen=True)
class Accept:
    offer: str
    agent: str


@dataclass(frozen=True)
class Reject:
    offer: str
    agent: str
    reason: str
    missed: bool


@dataclass(frozen=True)
class Requeue:
    reason: str


@dataclass(frozen=True)
class End:
    by: Literal["caller", "agent"]


Action = Ring | HangUp | Connect | Announce | Leave | Accept | Reject | Requeue | End
State = Literal["waiting", "ringing", "accepting", "talking", "over"]


@dataclass
class Call:
    """One customer who is held. Each method is something heard; it returns what is to be done, in order."""

    id: str
    queue: str
    state: State = "waiting"
    leg: str = ""
    offer: str = ""
    agent: str = ""
    accepted: bool = False
    leg_gone: bool = False
    passed: set[str] = field(default_factory=set)
    """offers of which we have said what came of them"""
    given_back: str = ""
    """the agent from whom the contact was just taken: Answerline may not know yet"""
    say_at: float = 0.0

    def told(self, found: Found | None, now: float) -> list[Action]:
        """What Answerline says; None: it did not answer."""
        if self.state in ("accepting", "talking", "over"):
            return []
        state = found.get("state") if found else None
        if found is None or state not in ("waiting", "offered", "assigned", "parked", "closed", "callback"):
            return [*self._stop_ringing(), *self._leave("fallback")]
        if state in ("closed", "callback"):
            return [*self._stop_ringing(), *self._leave(str(state))]
        if state == "assigned":
            return self._taken(found)
        self.given_back = ""
        offer = found.get("offer") or {}
        if state != "offered" or offer.get("id") != self.offer:
            actions = self._stop_ringing()
            return actions + (self._ring(offer) if state == "offered" else self._announce(found, now))
        return []

    def _taken(self, found: Found) -> list[Action]:
        """Somebody accepted in a program of theirs: their telephone rings already, or has to."""
        if self.state == "ringing" and found.get("agent") == self.agent:
            self.accepted = True
            return []
        agent = str(found.get("agent") or "")
        if agent == self.given_back:
            return []
        self_made = {"id": f"{found.get('contact')}-{agent}-{len(self.passed)}", "agent": agent, "address": found.get("address")}
        return [*self._stop_ringing(), *self._ring(self_made, accepted=True)]

    def _ring(self, offer: Found, accepted: bool = False) -> list[Action]:
        id, agent, address = (str(offer.get(name) or "") for name in ("id", "agent", "address"))
        if not id or id in self.passed:
            return []
        self.offer, self.agent, self.accepted, self.leg_gone = id, agent, accepted, False
        self.state, self.leg = "ringing", f"{LEG}{id}"
        if not address:
            return self._unmet("unavailable")
        return [Ring(self.leg, address)]

    def _announce(self, found: Found, now: float) -> list[Action]:
        if found.get("state") != "waiting" or now < self.say_at:
            return []
        self.say_at = now + float(found.get("announce_every_seconds") or EVERY_SECONDS)
        return [Announce(found)]

    def _stop_ringing(self) -> list[Action]:
        if self.state != "ringing":
            return []
        leg = self.leg
        self._forget_leg()
        return [HangUp(leg)]

    def _forget_leg(self) -> None:
        self.passed.add(self.offer)
        self.state, self.leg, self.offer, self.agent, self.accepted = "waiting", "", "", "", False

    def _leave(self, how: str) -> list[Action]:
        self.state = "over"
        return [Leave(how)]

    def _unmet(self, why: Why) -> list[Action]:
        """The agent was not reached: somebody else is asked. Only a telephone that rang in vain is a miss."""
        action: Action = Requeue(why) if self.accepted else Reject(self.offer, self.agent, why, missed=why == "no_answer")
        self.given_back = self.agent if self.accepted else ""
        self._forget_leg()
        return [action]

    def answered(self, leg: str) -> list[Action]:
        if leg != self.leg or self.state == "over":
            return [HangUp(leg)]
        if self.state != "ringing":
            return []
        if self.accepted:
            self.state = "talking"
            return [Connect(leg)]
        self.state = "accepting"
        return [Accept(self.offer, self.agent)]

    def failed(self, leg: str, why: Why) -> list[Action]:
        """The agent's telephone is not, or no longer, there."""
        if leg != self.leg:
            return []
        match self.state:
            case "ringing":
                return self._unmet(why)
            case "accepting":
                self.leg_gone = True
            case "talking":
                self.state = "over"
                return [End("agent"), Leave("answered")]
        return []

    def accept_answered(self, offer: str, took: bool | None) -> list[Action]:
        """`took`: whether the contact is the agent's. None: Answerline did not answer; then the two are connected all the same."""
        if self.state != "accepting" or offer != self.offer:
            return []
        leg, gone = self.leg, self.leg_gone
        if took is False:
            self._forget_leg()
            return [] if gone else [HangUp(leg)]
        if gone:
            self.accepted = True
            return self._unmet("unavailable")
        self.state = "talking"
        return [Connect(leg)]

    def not_connected(self) -> list[Action]:
        """The agent's channel was gone at the moment of connecting."""
        if self.state != "talking":
            return []
        self.accepted = True
        return self._unmet("unavailable")

    def still_held(self) -> list[Action]:
        """What was asked of the PBX for this customer was lost in a break."""
        return [Connect(self.leg)] if self.state == "talking" else []

    def caller_gone(self) -> list[Action]:
        before, self.state = self.state, "over"
        if before == "over":
            return []
        hang_up: list[Action] = [HangUp(self.leg)] if before != "waiting" and not self.leg_gone else []
        return [*hang_up, End("caller")]

    def taken_back(self) -> list[Action]:
        """The PBX gave the customer to its own queue, or to somebody else, by itself."""
        leg, before, self.state = self.leg, self.state, "over"
        hang_up: list[Action] = [HangUp(leg)] if before in ("ringing", "accepting", "talking") and not self.leg_gone else []
        return [*hang_up, End("agent")] if before == "talking" else hang_up

    def transferred(self) -> list[Action]:
        """The agent gave the customer to somebody of whom the PBX alone knows."""
        if self.state != "talking":
            return []
        self.state = "over"
        return [End("agent")]


# ---- doing it


class Switch(Protocol):
    """What a PBX does for us. Nothing here waits for the PBX; what comes of it is heard later. Errors of the connection are its own.
    `keep`: Answerline has just answered, so that the customer may be held for another while."""

    def keep(self, call: Call) -> None: ...
    def ring(self, call: Call, leg: str, address: str) -> None: ...
    def hang_up(self, leg: str) -> None: ...
    def connect(self, call: Call, leg: str) -> None: ...
    def announce(self, call: Call, found: Found) -> None: ...
    def leave(self, call: Call, how: str) -> None: ...


class Control:
    """All calls that are held. Methods may be called from any thread; actions of one call are done in their order."""

    def __init__(self, gateway: Where, switch: Switch) -> None:
        self.gateway, self.switch = gateway, switch
        self.calls: dict[str, Call] = {}
        self.lock = threading.RLock()
        self.stopped = threading.Event()
        self._workers = ThreadPoolExecutor(WORKERS, "control")
        self._clients = threading.local()
        self._numbers: dict[str, str] = {}
        self._attended: set[str] = set()

    # What is heard

    def arrives(self, id: str, queue: str, number: str = "", is_new: bool = True) -> None:
        """A customer is held for a queue. One who was held before a break is announced again only if Answerline does not know them."""
        with self.lock:
            if id not in self.calls:
                self.calls[id] = Call(id, queue, say_at=clock.monotonic() + FIRST_WORDS_SECONDS)
                self._numbers[id] = number
                self._begin_to_attend(id, is_new)

    def _begin_to_attend(self, id: str, is_new: bool) -> None:
        if id not in self._attended:
            self._attended.add(id)
            threading.Thread(target=self._attend, args=(id, is_new), name=f"call {id}", daemon=True).start()

    def talks(self, id: str, queue: str, leg: str) -> None:
        """A customer was connected with an agent's channel before we began."""
        with self.lock:
            self.calls.setdefault(id, Call(id, queue, "talking", leg))

    def number_of(self, id: str) -> str:
        return self._numbers.get(id, "")

    def hears(self, id: str, what: Callable[[Call], list[Action]]) -> None:
        """Something about a call."""
        with self.lock:
            call = self.calls.get(id)
            if call is None:
                return
            before = call.state
            actions = what(call)
            if before == "talking" and call.state == "waiting":
                self._begin_to_attend(id, is_new=False)
            if call.state == "over":
                self.calls.pop(id, None)
                self._numbers.pop(id, None)
            for action in actions:
                self._do(call, action)

    def of_leg(self, leg: str) -> str:
        """The call that an agent's channel was rung for; empty: none any more."""
        with self.lock:
            return next((call.id for call in self.calls.values() if call.leg == leg), "")

    def leg_answered(self, leg: str) -> None:
        """An agent who picks up after everything is over is not kept waiting."""
        with self.lock:
            id = self.of_leg(leg)
            if id:
                self.hears(id, lambda call: call.answered(leg))
            else:
                self.switch.hang_up(leg)

    def leg_failed(self, leg: str, why: Why) -> None:
        with self.lock:
            self.hears(self.of_leg(leg), lambda call: call.failed(leg, why))

    def reconcile(self, channels: Iterable[str], legs_up: Iterable[str], taken: Iterable[str] = ()) -> None:
        """After a break: `channels` are all that there are, `legs_up` those of agents who have picked up meanwhile, `taken` those of
        customers whom the PBX does not hold for us any more."""
        there, up, elsewhere = set(channels), set(legs_up), set(taken)
        with self.lock:
            for call in list(self.calls.values()):
                if call.id not in there:
                    self.hears(call.id, Call.caller_gone)
                elif call.id in elsewhere:
                    self.hears(call.id, Call.taken_back)
                elif call.leg and call.leg in up and call.state == "ringing":
                    self.leg_answered(call.leg)
                elif call.leg and call.leg not in there:
                    self.leg_failed(call.leg, "unavailable")

    # What is done

    def _do(self, call: Call, action: Action) -> None:
        match action:
            case Ring(leg, address):
                self.switch.ring(call, leg, address)
            case HangUp(leg):
                self.switch.hang_up(leg)
            case Connect(leg):
                self.switch.connect(call, leg)
            case Announce(found):
                self.switch.announce(call, found)
            case Leave(how):
                self.switch.leave(call, how)
            case Accept(offer, agent):
                self.switch.keep(call)
                self._workers.submit(self._accept, call.id, offer, agent)
            case Reject(offer, agent, reason, missed):
                self._report(f"/v1/offers/{quote(offer, safe='')}/reject", {"agent": agent, "reason": reason, "missed": missed})
            case Requeue(reason):
                self._report(f"{self.gateway.contact(call.id)}/requeue", {"reason": reason})
            case End(by):
                self._report(f"{self.gateway.contact(call.id)}/end", {"ended_by": by})

    def _accept(self, id: str, offer: str, agent: str) -> None:
        path, body = f"/v1/offers/{quote(offer, safe='')}/accept", {"agent": agent}
        answer = self._post(path, body)
        took = True if answer.taken else False if answer.refused else None
        self.hears(id, lambda call: call.accept_answered(offer, took))
        if took is None:
            self._tell(path, body)

    def _report(self, path: str, body: dict[str, Any]) -> None:
        self._workers.submit(self._tell, path, body)

    def _tell(self, path: str, body: dict[str, Any]) -> None:
        """Until it is taken or refused, with growing pauses."""
        pauses = Pauses()
        for _ in range(REPORT_TRIES):
            answer = self._post(path, body)
            if answer.taken or answer.refused or self.stopped.wait(pauses.next(answer.retry_after)):
                return
        log.error("what came of a call could not be told", path=path.rpartition("/")[2], status=answer.status)

    def _post(self, path: str, body: Mapping[str, Any]) -> Answer:
        client: Client | None = getattr(self._clients, "client", None)
        if client is None:
            client = self._clients.client = self.gateway.client()
        return client.post(path, orjson.dumps(body), "application/json")

    # Asking Answerline

    def _attend(self, id: str, is_new: bool) -> None:
        """For as long as the customer waits: whom to ask."""
        client = self.gateway.client()
        try:
            if is_new and not self._announce_arrival(client, id):
                self.hears(id, lambda call: call.told(None, clock.monotonic()))
            while not self.stopped.is_set():
                with self.lock:
                    call = self.calls.get(id)
                    if call is None or call.state == "talking":
                        self._attended.discard(id)
                        return
                    rings = call.state in ("ringing", "accepting")
                answer = self._ask(client, id, rings)
                if answer.status == NOT_FOUND and call.queue and not is_new:
                    is_new = True
                    if self._announce_arrival(client, id):
                        continue
                self._tell_call(id, answer.document if answer.taken else None)
                if not rings and answer.taken and answer.document.get("state") in ("offered", "assigned") and call.state == "waiting":
                    self.stopped.wait(SETTLE_SECONDS)
        finally:
            client.close()

    def _tell_call(self, id: str, found: Found | None) -> None:
        with self.lock:
            if found is not None and (call := self.calls.get(id)):
                self.switch.keep(call)
            self.hears(id, lambda call: call.told(found, clock.monotonic()))

    def _announce_arrival(self, client: Client, id: str) -> bool:
        with self.lock:
            call = self.calls.get(id)
            if call is None:
                return True
            told = {
                "event": "call.arrived",
                "callid": id,
                "queue": call.queue,
                "caller": self.number_of(id),
                "at": clock.now(),
                "polls": "1",
            }
        query = urlencode({"source": self.gateway.source})
        answer = client.post(f"/v1/telephony/asterisk/dialplan?{query}", orjson.dumps(told), "application/json")
        return answer.taken and bool(answer.document.get("contact"))

    def _ask(self, client: Client, id: str, rings: bool) -> Answer:
        query = urlencode({"wait": WAIT_SECONDS, "until": "assigned" if rings else "offered"})
        return client.post(f"{self.gateway.contact(id)}/assignment?{query}", b"{}", "application/json")

    # Whether Answerline is there

    def watch(self, beat: Callable[[int], None]) -> None:
        """Until stopped: `beat` a number that rises for as long as we live and Answerline answers. A dialplan that misses it takes its
        callers back."""
        client = self.gateway.client(timeout=SILENT_SECONDS)
        number = 0
        while not self.stopped.wait(PULSE_SECONDS):
            if client.get("/livez").taken:
                number += 1
                beat(number)
        client.close()

    def stop(self) -> None:
        self.stopped.set()
        self._workers.shutdown(wait=False, cancel_futures=True)
