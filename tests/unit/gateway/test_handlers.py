"""From what is posted to what is announced, and on through routing's inbox to the reports: without a broker, with both databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
import sqlalchemy
from sqlalchemy import func, select

from services.gateway import handlers, store
from services.gateway.domain.observation import Observation
from services.gateway.handlers import Answer, Arrival, Reading, Receipt, Taken
from services.routing import handlers as routing
from services.routing import reports
from services.routing import store as routing_store
from shared import contracts
from shared.bus.inbox import Inbox, sums
from shared.bus.outbox import UnitOfWork
from shared.errors import NotFound
from shared.ids import new_id
from shared.observability import trace
from tests.system import eventually
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.gateway.telephony_samples import TRUTH, ami_lines, posts, queue_log_lines

LINE = "1795296250|5.1|sales|NONE|ENTERQUEUE||7|1"
ANSWER = "1795296256|5.1|sales|Ann|CONNECT|6|5.9|3"
END = "1795296281|5.1|sales|Ann|COMPLETEAGENT|6|25|1"


def whole(readings: Iterable[Reading]) -> Reading:
    """The slices of a post as one."""
    joined = Reading()
    for reading in readings:
        joined.observations += reading.observations
        joined.ignored += reading.ignored
        joined.rejected += reading.rejected
    return joined


@dataclass
class Gateway:
    units: UnitOfWork
    heard: int = 0
    """up to which row of the outbox"""
    source: str = "pbx1"

    def post(self, *lines: str, source: str = "") -> Receipt:
        body = "\n".join(lines).encode("utf-8", "surrogateescape")
        return self.take(whole(handlers.read_queue_log(body)), "queue-log", source=source)

    def ami(self, *messages: dict[str, Any]) -> Receipt:
        return self.take(whole(handlers.read_ami(b"\n".join(map(orjson.dumps, messages)), 1795296250.0)), "ami")

    def dialplan(self, body: bytes, arrival: Arrival | None = None) -> Receipt:
        return self.take(handlers.read_dialplan(body, "application/json", 1795296250.0), "dialplan", arrival)

    def take(self, reading: Reading, door: str, arrival: Arrival | None = None, source: str = "") -> Receipt:
        (receipt,) = handlers.take_in(self.units, [Taken(source or self.source, door, reading, arrival)])
        return receipt

    def correlate(self) -> None:
        while handlers.correlate(self.units):
            pass

    def rows(self) -> list[dict[str, Any]]:
        """What was announced since last asked, as envelopes."""
        outbox = self.units.tables.outbox
        with self.units.database.reading() as connection:
            rows = connection.execute(select(outbox).where(outbox.c.seq > self.heard).order_by(outbox.c.seq)).all()
        self.heard = rows[-1].seq if rows else self.heard
        return [row.body for row in rows]

    def news(self) -> list[tuple[str, str]]:
        """(what, queue and outcome or agent and state) of all that was announced since last asked."""
        self.correlate()
        return [(row["type"].split(".")[1], told(row["data"])) for row in self.rows()]

    def kept(self, table: Any) -> list[Any]:
        with self.units.database.reading() as connection:
            return list(connection.execute(select(table).order_by(*table.primary_key)).all())


def told(data: dict[str, Any]) -> str:
    if leg := data.get("leg"):
        return f"{leg['queue']} {leg['outcome']}"
    return f"{data['agent']} {data['state']} {data['reason'] or ''}".strip() if "agent" in data else data["source"]


@pytest.fixture
def gateway(make_units: MakeUnits, at: SetClock) -> Gateway:
    at.seconds = 1795296300.0
    return Gateway(make_units(store.metadata))


# ---- taking in


def test_a_receipt_counts_what_was_new_known_of_no_concern_and_unreadable(gateway: Gateway) -> None:
    receipt = gateway.post(LINE, LINE, "1|NONE|NONE|NONE|CONFIGRELOAD|", "nonsense", "", "\udcff|5.1|sales|NONE|ENTERQUEUE||7|1", END)
    assert (receipt.accepted, receipt.duplicate, receipt.ignored) == (2, 1, 1)
    assert [(one["line"], one["reason"].split(",")[0]) for one in receipt.rejected] == [
        (4, "a queue_log line is epoch|callid|queue|agent|EVENT|data…".replace("…", "")),
        (6, "the line is not valid UTF-8"),
    ]


def test_keys_of_all_that_posts_tell_are_written_in_one_statement(gateway: Gateway) -> None:
    """In their order: with several statements two gateways that take in the same could wait for each other."""
    entered = [Observation("api", "entered", f"api|{call}", 1795296250.0, call=call, queue="sales") for call in ("1.1", "2.1")]
    said = [Answer(1, "a1", "pbx1:2.1", {"satisfied": 4}, 1795296290.0, "{}"), Answer(2, "a2", "pbx1:9.9", {}, 1795296290.0, "{}")]
    posts = [
        Taken("pbx1", "events", Reading([entered[0]], answers=said)),
        Taken("pbx1", "events", Reading(answers=[said[0]])),
        Taken("pbx1", "contacts", Reading([entered[1]]), Arrival(new_id())),  # whoever answers may do so at once
    ]
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        statements.append(statement)

    sqlalchemy.event.listen(gateway.units.database.engine, "before_cursor_execute", note)
    try:
        receipts = handlers.take_in(gateway.units, posts)
    finally:
        sqlalchemy.event.remove(gateway.units.database.engine, "before_cursor_execute", note)
    assert len([one for one in statements if one.lstrip().lower().startswith("insert into intake")]) == 1
    assert [(one.accepted, one.duplicate, one.rejected_total) for one in receipts] == [(2, 0, 1), (0, 1, 0), (1, 0, 0)]
    assert [row["type"] for row in gateway.rows()] == ["gateway.survey_answered.v1"]
    assert sorted(row.observation["call"] for row in gateway.kept(store.intake) if row.processed_at is None) == ["1.1", "2.1"]


def test_what_comes_of_a_post_belongs_to_its_trace(gateway: Gateway) -> None:
    for number, line in enumerate((LINE, END)):
        trace.begin(trace_of(number + 1))
        gateway.post(line)
    trace.adopt(None)
    gateway.correlate()
    assert {row["traceparent"] for row in gateway.rows()} == {trace_of(2)}, "the last that told something new of the contact"


def trace_of(number: int) -> str:
    return f"00-{number:032x}-{1:016x}-01"


def test_what_cannot_be_read_is_kept_for_inspection(gateway: Gateway) -> None:
    gateway.post("nonsense\0|", LINE)
    (row,) = gateway.kept(store.refused)
    assert (row.source, row.door, row.body) == ("pbx1", "queue-log", "nonsense\\x00|")
    assert row.reason.startswith("a queue_log line is")


def test_posted_again_nothing_is_new(gateway: Gateway) -> None:
    assert gateway.post(LINE, END).accepted == 2
    again = gateway.post(LINE, END, ANSWER)
    assert (again.accepted, again.duplicate) == (1, 2)
    assert gateway.post(LINE, source="pbx2").accepted == 1


def test_posts_of_one_commit_each_have_their_own_receipt(gateway: Gateway) -> None:
    def post(*lines: str, source: str = "pbx1") -> Taken:
        return Taken(source, "queue-log", whole(handlers.read_queue_log("\n".join(lines).encode())))

    receipts = handlers.take_in(gateway.units, [post(LINE, END), post(LINE, ANSWER), post(LINE, source="pbx2"), post()])
    assert [(one.accepted, one.duplicate) for one in receipts] == [(2, 0), (1, 1), (1, 0), (0, 0)]


def arrived(call: str = "5.1", linked: str = "5.0") -> bytes:
    return orjson.dumps({"event": "call.arrived", "callid": call, "linkedid": linked, "queue": "sales", "caller": "7", "at": 1795296250})


def test_a_caller_who_is_announced_has_an_id_at_once_and_keeps_it(gateway: Gateway) -> None:
    first, second = new_id(), new_id()
    assert gateway.dialplan(arrived(), Arrival(first, "voice", {"german": 2})).contact == first
    assert gateway.dialplan(arrived(), Arrival(second)).contact == first
    assert handlers.find_contact(gateway.units, "pbx1:5.1") == handlers.find_contact(gateway.units, first) == first
    gateway.correlate()
    gateway.post(LINE, ANSWER)
    gateway.correlate()
    rows = gateway.rows()
    assert {row["subject"] for row in rows} == {first}
    assert [row["data"]["required_skills"] for row in rows] == [{"german": 2}] * len(rows)
    assert gateway.dialplan(arrived(), Arrival(second)).contact == first


def test_two_posts_of_one_call_at_once_get_one_contact(gateway: Gateway) -> None:
    def post() -> Taken:
        return Taken("pbx1", "dialplan", handlers.read_dialplan(arrived(), "application/json", 1.0), Arrival(new_id()))

    receipts = handlers.take_in(gateway.units, [post(), post()])
    assert receipts[0].contact == receipts[1].contact is not None
    assert [one.accepted for one in receipts] == [1, 0]


@pytest.mark.parametrize(
    "name", ["nobody", "pbx1:5.1", "01a200b7-27f1-73d4-82f8-8f2034b92023", "-" * 36, "0" * 32 + "----", "pbx1:" + "x" * 5000]
)
def test_a_name_that_is_no_contacts_is_not_found(gateway: Gateway, name: str) -> None:
    with pytest.raises(NotFound):
        handlers.find_contact(gateway.units, name)


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_hang_up_told_by_id_ends_the_contact(gateway: Gateway, order: str) -> None:
    contact = gateway.dialplan(arrived(), Arrival(new_id())).contact or ""
    if order == "after":
        gateway.correlate()
    source, call = handlers.call_of(gateway.units, contact)
    gateway.take(Reading([Observation("api", "hung_up", "api|hung_up|x", 1795296260.0, call=call)]), "contacts", source=source)
    assert gateway.news()[-1] == ("contact_abandoned", "sales abandoned")


def test_a_contact_is_open_from_its_announcement_to_its_end(gateway: Gateway) -> None:
    contact = gateway.dialplan(arrived(), Arrival(new_id())).contact or ""
    assert handlers.is_open(gateway.units, contact)
    gateway.correlate()
    assert handlers.is_open(gateway.units, contact)
    gateway.dialplan(orjson.dumps({"event": "call.hangup", "callid": "5.1", "at": 1795296270}))
    gateway.correlate()
    assert not handlers.is_open(gateway.units, contact)


# ---- making sense of it


def test_each_step_is_announced_once_and_in_order(gateway: Gateway) -> None:
    gateway.post(LINE)
    assert gateway.news() == [("contact_arrived", "sales waiting")]
    gateway.post("1795296253|5.1|sales|Bob|RINGNOANSWER|3000", ANSWER)
    assert gateway.news() == [("offer_missed", "sales talking"), ("contact_answered", "sales talking")]
    gateway.post(LINE, ANSWER, END)
    assert gateway.news() == [("contact_ended", "sales completed")]
    gateway.post(LINE, ANSWER, END)
    assert gateway.news() == []


def hold(event: str, second: float, channel: str) -> dict[str, Any]:
    return {"Event": event, "Uniqueid": channel, "Linkedid": channel, "Timestamp": f"{1795296250 + second:.6f}"}


def test_a_hold_is_told_with_the_end_of_its_talk_whichever_comes_first_and_one_of_no_contact_to_nobody(gateway: Gateway) -> None:
    gateway.ami(hold("Hold", 10, "5.9"), hold("Unhold", 14.5, "5.9"), hold("Hold", 10, "77.1"), hold("Unhold", 11, "77.1"))
    assert gateway.news() == []
    gateway.post(LINE, ANSWER)
    gateway.correlate()
    gateway.post(END)
    gateway.correlate()
    ended = gateway.rows()[-1]
    assert (ended["type"], ended["data"]["leg"]["holds"], ended["data"]["leg"]["on_hold_seconds"]) == ("gateway.contact_ended.v1", 1, 4.5)
    assert contracts.load(ended["type"], ended["data"])["leg"]["hold_seconds"] == 6, "the wait"
    gateway.ami(hold("Hold", 20, "5.9"))
    assert gateway.news() == [("contact_corrected", "sales completed")]


def test_events_of_a_contact_are_counted_from_one(gateway: Gateway) -> None:
    gateway.post(LINE, ANSWER)
    gateway.correlate()
    gateway.post(END)
    gateway.correlate()
    rows = gateway.rows()
    assert [row["sequence"] for row in rows] == [1, 2, 3]
    assert [row["time"][17:19] for row in rows] == ["10", "16", "41"]


def test_no_event_tells_the_callers_number(gateway: Gateway) -> None:
    gateway.post(LINE.replace("|7|", "|+49301234567|"), END)
    gateway.correlate()
    assert "1234567" not in str(gateway.rows())


def test_what_is_announced_is_what_the_contracts_say(gateway: Gateway) -> None:
    gateway.post(LINE, ANSWER, END, "1795296250|NONE|NONE|Ann|PAUSEALL|lunch", "1795296200|NONE|NONE|NONE|QUEUESTART|")
    gateway.correlate()
    assert len([contracts.load(row["type"], row["data"]) for row in gateway.rows()]) == 5


def test_two_contacts_that_turn_out_to_be_one_call_become_one(gateway: Gateway) -> None:
    """The queue_log knows the channel, the dialplan's answer only the linked id; AMI knows both."""
    gateway.dialplan(orjson.dumps({"event": "call.answered", "callid": "5.0", "queue": "sales", "agent": "PJSIP/1", "at": 1795296256}))
    gateway.correlate()
    gateway.post(LINE)
    assert gateway.news() == [
        ("contact_arrived", "sales talking"),
        ("contact_answered", "sales talking"),
        ("contact_arrived", "sales waiting"),
    ]
    first, second = (row.id for row in sorted(gateway.kept(store.contact), key=lambda row: row.id))
    gateway.ami(
        {"Event": "QueueCallerJoin", "Uniqueid": "5.1", "Linkedid": "5.0", "Queue": "sales", "Position": "1", "Timestamp": "1795296250.5"}
    )
    gateway.correlate()
    rows = {(row["subject"], row["type"]): row["data"] for row in gateway.rows()}
    void = rows[second, "gateway.contact_corrected.v1"]
    assert (void["leg"]["outcome"], void["merged_into"]) == ("void", first)
    assert rows[first, "gateway.contact_corrected.v1"]["leg"]["outcome"] == "talking"
    assert {handlers.find_contact(gateway.units, name) for name in ("pbx1:5.1", "pbx1:5.0", second, first)} == {first}
    gateway.post(END)
    # the agent of the answer is known by name now
    assert gateway.news() == [("contact_corrected", "sales completed"), ("contact_ended", "sales completed")]


def test_a_contact_merged_twice_is_found_by_its_first_name(gateway: Gateway) -> None:
    for call in ("1.1", "2.1", "3.1"):
        gateway.post(f"1795296250|{call}|sales|NONE|ENTERQUEUE||7|1")
        gateway.correlate()
    ids = sorted(row.id for row in gateway.kept(store.contact))
    for call, linked in (("3.1", "2.1"), ("2.1", "1.1")):
        gateway.ami({"Event": "Hangup", "Uniqueid": call, "Linkedid": linked, "Timestamp": "1795296260.5"})
        gateway.correlate()
    assert {handlers.find_contact(gateway.units, id) for id in ids} == {ids[0]}


def test_a_restart_loses_the_calls_that_were_open_and_is_told_once(gateway: Gateway) -> None:
    gateway.post(LINE, LINE.replace("5.1", "6.1"), LINE.replace("5.1", "7.1"), END.replace("5.1", "7.1"))
    gateway.post(LINE, source="pbx2")
    gateway.correlate()
    gateway.news()
    gateway.post("1795296290|NONE|NONE|NONE|QUEUESTART|")
    gateway.ami({"Event": "FullyBooted", "Uptime": "1", "Timestamp": "1795296291.5"})
    assert Counter(gateway.news()) == {("source_restarted", "pbx1"): 1, ("contact_abandoned", "sales lost"): 2}
    gateway.post("1795296320|NONE|NONE|NONE|QUEUESTART|")
    assert gateway.news() == [("source_restarted", "pbx1")]


def test_an_agents_state_is_told_when_it_changes(gateway: Gateway) -> None:
    gateway.post("1795296250|NONE|sales|Ann|PAUSE|lunch")
    assert gateway.news() == [("agent_state_reported", "Ann paused lunch")]
    gateway.post("1795296251|NONE|sales|Ann|PAUSE|lunch")
    assert gateway.news() == []
    gateway.post("1795296252|NONE|sales|Ann|UNPAUSE|")
    assert gateway.news() == [("agent_state_reported", "Ann available")]
    gateway.post("1795296240|NONE|sales|Ann|PAUSE|late news")
    assert gateway.news() == []
    gateway.post("1795296253|NONE|sales|Ann|PAUSE|")
    assert gateway.news() == [("agent_state_reported", "Ann paused")]


def test_a_device_and_its_agent_are_one_in_one_batch_too(gateway: Gateway) -> None:
    bob = {"Event": "QueueMemberStatus", "Queue": "sales", "MemberName": "Bob", "Interface": "Local/2@a/n", "Status": "1", "Paused": "0"}
    gateway.ami({**bob, "Timestamp": "1795296250.5"})
    assert gateway.news() == [("agent_state_reported", "Bob available")]
    gateway.post(
        "1795296252|NONE|sales|Bob|PAUSE|tea",
        "1795296253|NONE|sales|Local/2@a/n|PENALTY|2",
        "1795296254|NONE|sales|Local/2@a/n|REMOVEMEMBER|",
    )
    assert gateway.news()[-1] == ("agent_state_reported", "Bob offline")
    (row,) = gateway.kept(store.agent_report)
    assert (row.report["penalty"], row.report["paused"], row.report["member"]) == (2, True, False)


EXTREME = [
    "999999999999|5.1|sales|NONE|ENTERQUEUE||7|1",
    "9999999999|5.1|sales|NONE|ENTERQUEUE||7|999999999",
    "1795296250|5.1|sales|NONE|ENTERQUEUE||7|999999999999",
    "1795296281|5.1|sales|Ann|COMPLETEAGENT|999999999|999999999|1",
    "1795296281|5.1|sales|Ann|COMPLETEAGENT|999999999999|999999999999|1",
    "0|5.1|sales|Ann|COMPLETEAGENT|999999999|999999999|1",
    "0|NONE|NONE|NONE|QUEUESTART|",
    "9999999999|NONE|NONE|NONE|QUEUESTART|",
    f"1795296250|NONE|sales|{''.join(map(chr, range(200, 3200)))}|PAUSE|",
    f"1795296250|{''.join(map(chr, range(200, 3200)))}|sales|NONE|ENTERQUEUE||7|1",
    f"1795296250|5.1|{'q' * 5000}|NONE|ENTERQUEUE||7|1",
]


@dataclass
class Centre:
    """Gateway and routing, joined by hand."""

    gateway: Gateway
    units: UnitOfWork
    desk: routing.LiveDesk = field(init=False)

    def __post_init__(self) -> None:
        self.desk = routing.LiveDesk(self.units)
        self.inbox = Inbox(self.units, lambda work, events: routing.receive(self.desk, work, events))

    def settle(self) -> None:
        self.gateway.correlate()
        rows = [orjson.dumps(row) for row in self.gateway.rows()]
        for start in range(0, len(rows), 200):
            self.inbox.process(rows[start : start + 200])

    def report(self, make: Any, **filters: Any) -> Any:
        with self.units.database.reading() as connection:
            return make(connection, filters)

    @property
    def queues(self) -> dict[str, dict[str, Any]]:
        return {row["queue"]: row for row in self.report(reports.queues)["queues"]}

    @property
    def agents(self) -> dict[str, dict[str, Any]]:
        return {row["agent"]: row for row in self.report(reports.agents)["agents"]}

    @property
    def sums(self) -> dict[str, int]:
        with self.units.database.reading() as connection:
            return {name: count for name, count in sums(connection, self.units).items() if count}


@pytest.fixture
def centre(gateway: Gateway, make_units: MakeUnits) -> Centre:
    return Centre(gateway, make_units(routing_store.metadata))


@pytest.mark.parametrize("line", EXTREME, ids=range(len(EXTREME)))
def test_no_line_however_strange_stops_the_others(centre: Centre, line: str) -> None:
    centre.gateway.post(line, LINE.replace("5.1", "9.9"))
    centre.settle()
    assert centre.queues["sales"]["offered"] >= 1
    assert centre.sums.keys() <= {"received", "applied"}


# ---- a real PBX's evening


def check(centre: Centre, run: str, but: dict[str, int] | None = None) -> None:
    """The reports' figures are the truth's. `but`: rings fewer per queue, which came after AMI's capture."""
    for queue, truth in TRUTH[run]["queues"].items():
        names = {name: "ring_no_answer" if name == "missed" else name for name in truth}
        expected = {**truth, "missed": truth["missed"] - (but or {}).get(queue, 0)}
        assert {name: centre.queues[queue][ours] for name, ours in names.items()} == expected
    if not but:
        answered = {
            name: {"answered": row["answered"], "talk_seconds": row["talk_seconds"], "missed": row["ring_no_answer"]}
            for name, row in centre.agents.items()
        }
        assert answered == TRUTH[run]["agents"]
    assert [row["uncertain"] for row in centre.queues.values() if row["uncertain"]] == []
    assert centre.sums.keys() <= {"received", "applied", "duplicate"}


def test_the_queue_log_gives_the_true_figures_and_posted_again_changes_nothing(centre: Centre) -> None:
    lines = queue_log_lines()
    assert centre.gateway.post(*lines).accepted > 400
    centre.settle()
    check(centre, "run1")
    assert centre.gateway.post(*lines).accepted == 0
    centre.settle()
    check(centre, "run1")


def test_so_does_ami_without_timestamps(centre: Centre) -> None:
    body = b"\n".join(ami_lines("ami_without_timestamps"))
    centre.gateway.take(whole(handlers.read_ami(body, 1.0)), "ami")
    centre.settle()
    check(centre, "run2")


def test_one_call_told_by_three_reporters_is_one_contact_in_the_reports(centre: Centre) -> None:
    """Each reporter's post as it would come: piece by piece, taking turns, in different order."""
    lines, messages, told = queue_log_lines(), ami_lines("ami_with_timestamps"), posts()
    for part in range(4):
        centre.gateway.take(whole(handlers.read_ami(b"\n".join(messages[part::4]), 1.0)), "ami")
        centre.gateway.post(*lines[part * len(lines) // 4 : (part + 1) * len(lines) // 4])
        for post in told[part::4]:
            reading = handlers.read_dialplan(post["body"].encode(), post["content_type"], 1.0)
            arrival = Arrival(new_id()) if reading.observations and reading.observations[0].kind == "arrived" else None
            centre.gateway.take(reading, "dialplan", arrival)
        centre.settle()
    check(centre, "run1")


def test_delivered_twice_and_in_pieces_the_figures_are_the_same(centre: Centre) -> None:
    centre.gateway.post(*queue_log_lines())
    centre.gateway.correlate()
    rows = [orjson.dumps(row) for row in centre.gateway.rows()]
    for start in range(0, len(rows), 37):
        centre.inbox.process(rows[max(0, start - 20) : start + 37])
    check(centre, "run1")
    assert centre.sums["duplicate"] > 0


def test_history_offers_nobody(centre: Centre, at: SetClock) -> None:
    at.forward(900)
    centre.desk.execute([lambda desk, _now: routing.put_queue(desk, {"name": "sales", "mode": "routed"})])
    centre.desk.execute([lambda desk, now: desk.put_agent("a1", channels=["voice"]) and desk.set_agent_state("a1", "available", now)])
    centre.gateway.post(*queue_log_lines())
    centre.settle()
    check(centre, "run1")
    with centre.units.database.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(routing_store.offer)) == 0
        assert connection.scalar(select(func.count()).select_from(routing_store.contact)) == 0


def test_a_restart_days_ahead_of_every_clock_ends_no_call(gateway: Gateway, at: SetClock) -> None:
    at.seconds = 1795296260.0
    gateway.post("1795728250|NONE|NONE|NONE|QUEUESTART|")
    gateway.correlate()
    gateway.post(LINE, ANSWER)
    assert ("contact_answered", "sales talking") in gateway.news()


def test_a_call_that_rings_for_ever_is_worked_out_from_a_bounded_number_of_facts(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "MOST_RINGS", 3)
    gateway.post(LINE, *(f"{1795296251 + second}|5.1|sales|Bob|RINGNOANSWER|900" for second in range(5)))
    gateway.correlate()
    gateway.post(ANSWER, END)
    assert gateway.news()[-1] == ("contact_ended", "sales completed")
    (contact,) = gateway.kept(store.contact)
    assert len(contact.observations) <= 6


def test_a_post_that_comes_again_while_it_is_correlated_waits_for_that_and_neither_fails(gateway: Gateway) -> None:
    if gateway.units.database.sqlite:
        return  # has one writer
    gateway.dialplan(arrived(), Arrival(new_id()))
    with ThreadPoolExecutor(1) as pool:
        with gateway.units() as correlating:
            store.mark_processed(correlating.connection, list(correlating.connection.scalars(select(store.intake.c.seq))), 1.0)
            again = pool.submit(gateway.dialplan, arrived(), Arrival(new_id()))
            waits = sqlalchemy.text("select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()")

            def is_waited_for() -> bool:
                with gateway.units.database.reading() as connection:
                    return bool(connection.scalar(waits))

            eventually(is_waited_for)
            store.lock_aliases(correlating.connection, [gateway.source])
        assert again.result().duplicate == 1
