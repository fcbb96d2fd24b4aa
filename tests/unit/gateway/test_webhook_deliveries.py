"""Webhooks over a database, from the door to the post: what is owed, in which order it goes, and what becomes of it. No network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from secrets import token_hex
from typing import Any

import orjson
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import select

from answerline import verify_webhook
from services.gateway import courier as couriers
from services.gateway import store, stream_log, webhooks
from services.gateway.courier import Courier
from services.gateway.domain.webhooks import PATIENCE, STEPS
from shared import contracts
from shared.bus.envelope import Event
from shared.db.engine import LeaseLostError
from shared.ids import lowest_id
from shared.runtime.outbound import Reply, Unreachable
from shared.targets import Allowance, BadTarget, Target
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.gateway.door import SEALER, Answer, Doors

QUEUED, RESTARTED = "routing.contact_queued.v1", "gateway.source_restarted.v1"
URL = "https://crm.example.com/in"
NOBODY = "019aa8a2-6000-7abc-8def-0123456789ab"
DAY = 86400.0


class Receiver:
    """Notes what is posted, and answers what it was told to: a status, an exception, or what a function makes of the subject."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answer: Any = 204
        self.headers: dict[str, str] = {}
        self.body = b""

    def __call__(self, target: Target, headers: dict[str, str], body: bytes, allowance: Allowance) -> Reply:
        subject = orjson.loads(body)["subject"]
        self.posts.append((target.host, subject, headers, body))
        answer = self.answer(subject) if callable(self.answer) else self.answer
        if isinstance(answer, Exception):
            raise answer
        message = Message()
        for name, value in self.headers.items():
            message[name] = value
        return Reply(answer, message, self.body)  # type: ignore[arg-type]

    @property
    def subjects(self) -> list[str]:
        return [subject for _, subject, _, _ in self.posts]


class House:
    """A gateway's webhooks. `run` works until there is nothing to do at this moment."""

    def __init__(self, doors: Doors, at: SetClock) -> None:
        self.doors, self.at, self.units = doors, at, doors.units
        self.receiver = Receiver()
        self.draw = 0.5
        self.begin_anew()

    def begin_anew(self, spawn: Callable[..., Any] = lambda work, *arguments: work(*arguments)) -> None:
        """Another process takes over."""
        self.courier = Courier(self.units, SEALER, Allowance(), self.receiver, spawn, lambda: self.draw)
        self.doors.service.core.courier = self.courier

    def __call__(self, method: str, path: str, body: Any = b"", status: int = 200) -> Any:
        answer: Answer = self.doors(method, f"/v1/webhooks{path}", body, key="admin")
        assert answer.status == status, answer
        return answer.json

    def make(self, url: str = URL, types: list[str] | None = None, **more: Any) -> Any:
        return self("POST", "", {"url": url, "types": types or ["*"], **more}, status=201)

    def happen(self, *subjects: str, type: str = QUEUED, queue: str = "sales") -> list[str]:
        """These events come in; their ids."""
        example = {QUEUED: {"contact": NOBODY, "queue": queue}, RESTARTED: {"source": "pbx", "at": self.at.seconds}}[type]
        told = orjson.loads((EXAMPLES / f"{type}.json").read_bytes())["data"]
        data = {**contracts.load(type, told), **example}
        events = [Event(type, subject, data, self.at.seconds, 1) for subject in subjects]
        with self.units() as work:
            stream_log.append(work, events)
        return [event.id for event in events]

    def run(self) -> None:
        for _ in range(1000):
            if not self.courier.step():
                return
        raise AssertionError("it never ends")

    def deliveries(self, webhook: Any, query: str = "") -> list[Any]:
        """Newest first."""
        return self("GET", f"/{webhook['id']}/deliveries{query}")["items"]

    def delivery(self, webhook: Any) -> Any:
        (one,) = self.deliveries(webhook)
        return one


EXAMPLES = Path(contracts.__file__).parent / "examples"


@pytest.fixture
def house(make_units: MakeUnits, at: SetClock) -> Iterator[House]:
    at.seconds = 1795296300.0
    yield House(Doors(make_units(store.metadata)), at)


# ---- what there is


def test_a_webhook_is_made_shown_changed_and_deleted(house: House) -> None:
    made = house.make(types=["routing.contact_*"], queues=["sales"], description="CRM")
    secret = made.pop("secret")
    shown = {
        "id": made["id"], "url": URL, "types": ["routing.contact_*"], "queues": ["sales"], "description": "CRM", "format": "cloudevents", "enabled": True, "disabled": "",
        "failing_since": None, "old_secret_until": None, "created_at": "2026-11-21T21:25:00.000Z", "changed_at": "2026-11-21T21:25:00.000Z",
    }  # fmt: skip
    assert made == shown == house("GET", f"/{made['id']}")
    assert secret.startswith("whsec_")
    house.at.forward(60)
    changed = house("PUT", f"/{made['id']}", {"url": URL + "2", "types": ["*"]})
    assert changed == {**shown, "url": URL + "2", "types": ["*"], "queues": [], "description": "", "changed_at": "2026-11-21T21:26:00.000Z"}
    other = house.make()
    page = house("GET", "?limit=1")
    assert (page["items"], page["next"]) == ([changed], made["id"])
    assert [one["id"] for one in house("GET", f"?cursor={page['next']}")["items"]] == [other["id"]]
    house("DELETE", f"/{made['id']}", status=204)
    for method, path, body in (("GET", "", b""), ("DELETE", "", b""), ("POST", "/test", b""), ("GET", "/deliveries", b""), ("POST", "/rotate", {}),
                               ("PUT", "", {"url": URL, "types": ["*"]}), ("POST", "/redeliver", {"since": "2026-11-21T00:00:00Z"})):  # fmt: skip
        for id in (made["id"], NOBODY, "x"):
            house(method, f"/{id}{path}", body, status=404)


def test_a_secret_is_shown_once_and_kept_sealed(house: House) -> None:
    secret = house.make()["secret"]
    house.happen("a")
    house.run()
    for table in store.metadata.sorted_tables:
        with house.units.database.reading() as connection:
            assert secret.removeprefix("whsec_") not in str(connection.execute(select(table)).all()), table.name
    for path in ("", f"/{house('GET', '')['items'][0]['id']}"):
        assert "whsec_" not in str(house("GET", path))


def test_only_administrators_have_to_do_with_webhooks(house: House) -> None:
    for key in ("supervisor", "agent", "telephony"):
        assert house.doors("GET", "/v1/webhooks", key=key).status == 403
        assert house.doors("POST", "/v1/webhooks", {"url": URL, "types": ["*"]}, key=key).status == 403
    assert house.doors("GET", "/v1/webhooks").status == 401


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"types": ["*"]}, "url"),
        ({"url": "http://crm.example.com", "types": ["*"]}, "url"),
        ({"url": "https://127.0.0.1/", "types": ["*"]}, "url"),
        ({"url": "https://[::ffff:10.0.0.1]/", "types": ["*"]}, "url"),
        ({"url": "https://localhost/", "types": ["*"]}, "url"),
        ({"url": URL}, "types"),
        ({"url": URL, "types": []}, "types"),
        ({"url": URL, "types": ["routing.contact_assigned"]}, "types"),
        ({"url": URL, "types": ["billing.*"]}, "types"),
        ({"url": URL, "types": ["*"], "queues": [""]}, "queues"),
        ({"url": URL, "types": ["*"], "description": "x" * 201}, "description"),
        ({"url": URL, "types": ["*"], "secret": "whsec_x"}, "secret"),
    ],
)
def test_what_cannot_be_subscribed_to_is_told(house: House, told: Any, field: str) -> None:
    assert field in house("POST", "", told, status=422)["errors"]
    made = house.make()
    assert field in house("PUT", f"/{made['id']}", told, status=422)["errors"]
    assert house("GET", f"/{made['id']}")["url"] == URL


def test_there_is_an_end_to_their_number(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "MOST", 1)
    house.make()
    assert "delete one" in house("POST", "", {"url": URL, "types": ["*"]}, status=409)["detail"]


# ---- what is sent


def test_an_event_is_posted_as_it_is_and_signed(house: House) -> None:
    made = house.make()
    (id,) = house.happen("a")
    house.run()
    ((host, _, headers, body),) = house.receiver.posts
    assert host == "crm.example.com"
    assert headers["Content-Type"] == "application/cloudevents+json"
    assert headers["webhook-id"] == id
    told = verify_webhook(headers, body, made["secret"], now=house.at.seconds)
    assert (told["specversion"], told["id"], told["type"], told["subject"], told["data"]["queue"]) == ("1.0", id, QUEUED, "a", "sales")
    delivery = house.delivery(made)
    assert delivery == {
        "id": delivery["id"], "event": id, "type": QUEUED, "subject": "a", "state": "delivered", "attempts": 1,
        "queued_at": "2026-11-21T21:25:00.000Z", "last_attempt_at": "2026-11-21T21:25:00.000Z", "next_attempt_at": None,
        "last_status": 204, "last_error": "", "last_answer": "",
    }  # fmt: skip


def test_only_what_was_asked_for_is_sent_and_only_what_happens_from_now_on(house: House) -> None:
    house.happen("before")
    all_, contacts, sales = house.make(), house.make(types=["routing.contact_*"]), house.make(queues=["sales"])
    house.happen("a")
    house.happen("b", queue="billing")
    house.happen("c", type=RESTARTED)
    house.run()
    got = {
        name: sorted(one["subject"] for one in house.deliveries(it)) for name, it in (("*", all_), ("contacts", contacts), ("sales", sales))
    }
    assert got == {"*": ["a", "b", "c"], "contacts": ["a", "b"], "sales": ["a"]}


def test_a_change_of_the_types_counts_from_the_next_event_on(house: House) -> None:
    made = house.make(types=[RESTARTED])
    house.happen("a")
    house.run()
    house("PUT", f"/{made['id']}", {"url": URL, "types": ["*"]})
    house.happen("b")
    house.run()
    assert house.receiver.subjects == ["b"]


def test_a_disabled_webhook_gets_nothing_and_once_enabled_what_was_owed_and_what_is_new(house: House) -> None:
    made = house.make()
    house.receiver.answer = 500
    house.happen("owed")
    house.run()
    off = house("PUT", f"/{made['id']}", {"url": URL, "types": ["*"], "enabled": False})
    assert (off["enabled"], off["disabled"]) == (False, "asked")
    house.receiver.posts.clear()
    house.receiver.answer = 204
    house.at.forward(DAY)
    house.happen("missed")
    house.run()
    assert not house.receiver.posts
    on = house("PUT", f"/{made['id']}", {"url": URL, "types": ["*"]})
    assert (on["enabled"], on["disabled"], on["failing_since"]) == (True, "", None)
    house.happen("new")
    house.run()
    assert house.receiver.subjects == ["owed", "new"]


def test_more_than_is_read_at_once_is_read_to_the_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(couriers, "READ_AT_ONCE", 3)
    house.make(types=[QUEUED])
    for number in range(5):
        house.happen(f"a{number}", f"b{number}")
        house.happen("noise", type=RESTARTED)
    house.run()
    assert sorted(house.receiver.subjects) == sorted(f"{letter}{number}" for letter in "ab" for number in range(5))


# ---- rotation


def test_after_a_rotation_both_secrets_sign_for_a_while(house: House) -> None:
    made = house.make()

    def signatures() -> dict[str, Any]:
        house.happen("x")
        house.run()
        return house.receiver.posts[-1][2]

    rotated = house("POST", f"/{made['id']}/rotate", {"keep_seconds": 3600})
    assert rotated["secret"] != made["secret"]
    assert rotated["old_secret_until"] == "2026-11-21T22:25:00.000Z"
    headers, body = signatures(), house.receiver.posts[-1][3]
    new, old = headers["webhook-signature"].split(" ")
    for secret, signature in ((rotated["secret"], new), (made["secret"], old)):
        assert verify_webhook({**headers, "webhook-signature": signature}, body, secret, now=house.at.seconds)
    house.at.forward(3601)
    assert len(signatures()["webhook-signature"].split(" ")) == 1
    assert house("GET", f"/{made['id']}")["old_secret_until"] is None


def test_a_secret_that_others_know_ends_at_once_and_never_more_than_two_sign(house: House) -> None:
    made = house.make()
    house("POST", f"/{made['id']}/rotate", {})
    house("POST", f"/{made['id']}/rotate", {})
    house.happen("x")
    house.run()
    assert len(house.receiver.posts[-1][2]["webhook-signature"].split(" ")) == 2
    last = house("POST", f"/{made['id']}/rotate", {"keep_seconds": 0})
    house.happen("y")
    house.run()
    _, _, headers, body = house.receiver.posts[-1]
    assert len(headers["webhook-signature"].split(" ")) == 1
    assert verify_webhook(headers, body, last["secret"], now=house.at.seconds)
    assert len(house.doors.kept(webhooks.webhook_secret)) == 1
    assert "keep_seconds" in house("POST", f"/{made['id']}/rotate", {"keep_seconds": -1}, status=422)["errors"]


# ---- failures


def test_what_fails_is_tried_again_under_the_same_id_with_a_new_time(house: House) -> None:
    made = house.make()
    house.receiver.answer, house.receiver.body = 500, b"no such customer: ann@example.com"
    (id,) = house.happen("a")
    house.run()
    one = house.delivery(made)
    assert (one["state"], one["attempts"], one["last_status"], one["last_answer"]) == ("pending", 1, 500, "no such customer: …")
    assert one["next_attempt_at"] == "2026-11-21T21:25:05.000Z"
    assert house("GET", f"/{made['id']}")["failing_since"] == "2026-11-21T21:25:00.000Z"
    house.at.forward(4.9)
    house.run()
    assert len(house.receiver.posts) == 1
    house.receiver.answer = 200
    house.at.forward(0.2)
    house.run()
    assert [headers["webhook-id"] for _, _, headers, _ in house.receiver.posts] == [id, id]
    assert [int(headers["webhook-timestamp"]) for _, _, headers, _ in house.receiver.posts] == [1795296300, 1795296305]
    assert house.receiver.posts[0][3] == house.receiver.posts[1][3]
    assert (house.delivery(made)["state"], house.delivery(made)["attempts"]) == ("delivered", 2)
    assert house("GET", f"/{made['id']}")["failing_since"] is None


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Unreachable("no answer within 15 s"), "no answer within 15 s"),
        (BadTarget("10.0.0.1 is not on the public internet"), "10.0.0.1 is not on the public internet"),
        (RuntimeError("a fault of ours"), "it failed at our end; the log says how"),
        (302, "a redirect is not followed: give the address that it leads to"),
        (404, ""),
    ],
)
def test_whatever_hinders_it_is_shown_and_tried_again(house: House, answer: Any, why: str) -> None:
    made = house.make()
    house.receiver.answer = answer
    house.happen("a")
    house.run()
    one = house.delivery(made)
    assert (one["state"], one["attempts"], one["last_error"]) == ("pending", 1, why)
    assert one["last_status"] == (answer if isinstance(answer, int) else None)


def test_after_some_three_days_a_delivery_is_dead_and_stays_to_be_seen(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.courier, "_prune_at", float("inf"))
    made = house.make()
    house.receiver.answer = lambda subject: 500 if subject == "poison" else 204
    house.happen("poison")
    house.run()
    for step in STEPS:
        house.at.forward(step + 1)
        house.happen("fine")  # so that the receiver is not taken for dead
        house.run()
        house.at.forward(120)
        house.run()
    poison = house.deliveries(made, "?state=dead")
    assert [(one["subject"], one["attempts"], one["next_attempt_at"]) for one in poison] == [("poison", len(STEPS) + 1, None)]
    assert len(house.deliveries(made, "?state=delivered")) == len(STEPS)
    assert not house.deliveries(made, "?state=pending")
    assert house.receiver.subjects.count("poison") == len(STEPS) + 1


def test_retry_after_is_honoured_for_all_that_is_owed(house: House) -> None:
    house.make()
    house.receiver.answer, house.receiver.headers = 429, {"Retry-After": "300"}
    house.happen("a", "b")
    house.run()
    sent = len(house.receiver.posts)
    house.at.forward(299)
    house.happen("c")
    house.run()
    assert len(house.receiver.posts) == sent
    house.receiver.answer = 204
    house.at.forward(2)
    house.run()
    assert sorted(set(house.receiver.subjects[sent:])) == ["a", "b", "c"]


def test_410_disables_a_webhook_and_that_is_announced(house: House) -> None:
    made = house.make()
    house.receiver.answer = 410
    house.happen("a")
    house.run()
    shown = house("GET", f"/{made['id']}")
    assert (shown["enabled"], shown["disabled"]) == (False, "gone")
    assert house.delivery(made)["state"] == "dead"
    (event,) = house.doors.announced()
    assert (event["type"], event["subject"]) == ("gateway.webhook_disabled.v1", made["id"])
    assert event["data"] == {"webhook": made["id"], "reason": "gone"}
    assert "example.com" not in str(event)
    house.happen("b")
    house.run()
    assert len(house.receiver.posts) == 1
    house.receiver.answer = 204
    house("PUT", f"/{made['id']}", {"url": URL, "types": ["*"]})
    house.happen("c")
    house.run()
    assert house.receiver.subjects == ["a", "c"]


def test_a_webhook_that_only_fails_for_five_days_is_disabled(house: House) -> None:
    made = house.make()
    house.receiver.answer = 503
    began = house.at.seconds
    while house("GET", f"/{made['id']}")["enabled"]:
        house.happen(f"{house.at.seconds}")
        house.run()
        house.at.forward(6 * 3600)
        assert house.at.seconds < began + 6 * DAY
    assert house.at.seconds - began >= PATIENCE
    assert house("GET", f"/{made['id']}")["disabled"] == "failing"
    assert [event["data"]["reason"] for event in house.doors.announced()] == ["failing"]
    with house.units.database.reading() as connection:
        acts = connection.execute(select(store.audit).where(store.audit.c.object == made["id"])).all()
    assert [act.summary for act in acts if act.name == "answerline"] == ["failing"]


def test_what_an_old_address_answered_does_not_disable_the_new_one(house: House) -> None:
    made = house.make()

    def gone_too_late(_subject: str) -> int:
        house.at.forward(1)
        house("PUT", f"/{made['id']}", {"url": "https://new.example.com/", "types": ["*"]})
        return 410

    house.receiver.answer = gone_too_late
    house.happen("a")
    house.run()
    assert house("GET", f"/{made['id']}")["enabled"]


def test_a_webhook_deleted_meanwhile_is_gone(house: House) -> None:
    made = house.make()

    def delete(_subject: str) -> int:
        house("DELETE", f"/{made['id']}", status=204)
        return 204

    house.receiver.answer = delete
    house.happen("a", "b")
    house.run()
    with house.units.database.reading() as connection:
        assert not connection.execute(select(webhooks.webhook_delivery)).all()


# ---- order, and who waits for whom


def test_events_of_one_subject_go_in_order_one_at_a_time(house: House) -> None:
    tasks: list[Any] = []
    house.begin_anew(lambda *task: tasks.append(task))
    house.make()
    first = house.happen("a", "b", "a", "a")
    house.courier.step()
    assert [parcel.event for _, _, parcel in tasks] == [first[0], first[1]], "the second of a waits for the first"
    house.courier.step()
    assert len(tasks) == 2
    while tasks:
        work, *arguments = tasks.pop(0)
        work(*arguments)
        house.courier.step()
    assert house.receiver.subjects == ["a", "b", "a", "a"]
    order = [headers["webhook-id"] for _, subject, headers, _ in house.receiver.posts if subject == "a"]
    assert order == [first[0], first[2], first[3]]


def test_what_failed_once_holds_back_its_subject_and_then_no_more(house: House) -> None:
    made = house.make()
    broken, later, _other = house.happen("a", "a", "b")
    house.receiver.answer = lambda subject: 500 if subject == "a" and house.receiver.posts[-1][2]["webhook-id"] == broken else 204
    house.run()
    assert house.receiver.subjects == ["a", "b"], "the later one of its subject waits"
    house.at.forward(5.1)
    house.run()
    assert house.receiver.subjects == ["a", "b", "a"], "first it is tried again"
    house.at.forward(20)
    house.run()
    assert house.receiver.subjects == ["a", "b", "a", "a"]
    assert {one["event"]: one["state"] for one in house.deliveries(made) if one["subject"] == "a"} == {
        broken: "pending",
        later: "delivered",
    }


def test_a_long_retry_after_holds_back_its_subject_for_two_minutes_at_most(house: House) -> None:
    house.make()
    house.receiver.answer, house.receiver.headers = 503, {"Retry-After": "86400"}
    house.happen("a")
    house.run()
    house.receiver.answer, house.receiver.headers = 204, {}
    house.at.forward(3601)
    house.happen("a")
    house.run()
    assert house.receiver.subjects == ["a", "a"]


def test_a_receiver_that_is_down_is_asked_about_once_a_minute_whatever_is_owed(house: House) -> None:
    house.make()
    house.receiver.answer = 503
    house.happen(*(f"s{number}" for number in range(50)))
    house.run()
    first = len(house.receiver.posts)
    assert first <= couriers.LANES
    for _ in range(360):
        house.at.forward(10)
        house.courier.step()
    assert 50 <= len(house.receiver.posts) - first <= 70
    house.receiver.answer = 204
    house.receiver.posts.clear()
    house.at.forward(120)
    house.run()
    assert len(house.receiver.posts) >= 30, "what was not tried meanwhile goes at once"


def test_several_that_fail_at_one_moment_are_one_failure(house: House) -> None:
    tasks: list[Any] = []
    house.begin_anew(lambda *task: tasks.append(task))
    house.make()
    house.happen(*(f"s{number}" for number in range(couriers.LANES)))
    house.courier.step()
    house.receiver.answer = 503
    for work, *arguments in tasks:
        work(*arguments)
    house.at.forward(5.1)
    tasks.clear()
    house.courier.step()
    assert len(tasks) == 1, "the pause is that after a first failure"


def test_a_slow_receiver_has_a_few_requests_under_way_and_holds_up_nobody(house: House) -> None:
    tasks: list[Any] = []
    house.begin_anew(lambda *task: tasks.append(task))
    house.make("https://slow.example.com/")
    house.happen(*(f"s{number}" for number in range(40)))
    house.courier.step()
    house.courier.step()
    assert len(tasks) == couriers.LANES
    house.make("https://quick.example.com/")
    house.happen("x")
    house.courier.step()
    assert [receiver.url for _, receiver, _ in tasks[couriers.LANES :]] == ["https://quick.example.com/"]


def test_when_all_places_are_taken_each_receiver_still_has_one(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(couriers, "MOST_AT_ONCE", 4)
    tasks: list[Any] = []
    house.begin_anew(lambda *task: tasks.append(task))
    for number in range(6):
        house.make(f"https://r{number}.example.com/")
    house.happen(*(f"s{number}" for number in range(20)))
    house.courier.step()
    by = [receiver.url for _, receiver, _ in tasks]
    assert len(set(by)) == 6
    assert len(by) == couriers.LANES + 5


# ---- nothing is lost


def test_what_was_sent_but_not_noted_is_sent_again_under_the_same_id(house: House) -> None:
    made = house.make()

    def die(_subject: str) -> int:
        raise KeyboardInterrupt  # kill -9, as far as a test can: nothing after it is done

    house.receiver.answer = die
    (id,) = house.happen("a")
    with pytest.raises(KeyboardInterrupt):
        house.run()
    house.receiver.answer = 204
    house.begin_anew()
    house.run()
    assert [headers["webhook-id"] for _, _, headers, _ in house.receiver.posts] == [id, id]
    assert house.delivery(made)["state"] == "delivered"


def test_an_outage_while_it_is_noted_loses_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    made = house.make()
    house.happen("a")
    real, failures = Courier._note, [LeaseLostError("gone")]

    def note(courier: Courier, attempts: Any) -> list[str]:
        if failures:
            raise failures.pop()
        return real(courier, attempts)

    monkeypatch.setattr(Courier, "_note", note)
    house.begin_anew()
    house.run()
    assert house.receiver.subjects == ["a", "a"]
    assert (house.delivery(made)["state"], house.delivery(made)["attempts"]) == ("delivered", 1)


def test_two_that_deliver_at_once_owe_an_event_once(house: House) -> None:
    """A process that does not know yet that it lost the lease."""
    made = house.make()
    tasks: list[Any] = []
    house.begin_anew(lambda *task: tasks.append(task))
    first = house.courier
    house.begin_anew()
    house.happen("a")
    first.step()
    house.run()
    for work, *arguments in tasks:
        work(*arguments)
    assert len(house.deliveries(made)) == 1
    assert house.delivery(made)["state"] == "delivered"


# ---- again


def test_one_delivery_is_sent_again_even_if_its_body_is_kept_in_the_log_alone(house: House) -> None:
    made = house.make(types=[QUEUED])
    (id,) = house.happen("a")
    house.run()
    one = house.delivery(made)
    assert house("POST", f"/{made['id']}/redeliver", {"delivery": one["id"]}, status=202) == {"events": 1}
    house.run()
    assert [headers["webhook-id"] for _, _, headers, _ in house.receiver.posts] == [id, id]
    assert house.receiver.posts[0][3] == house.receiver.posts[1][3]
    assert house.delivery(made)["attempts"] == 1
    house.happen("b", type=RESTARTED)
    with house.units() as work:
        work.connection.execute(stream_log.stream_event.delete().where(stream_log.stream_event.c.subject == "a"))
    assert "too old" in house("POST", f"/{made['id']}/redeliver", {"delivery": one["id"]}, status=409)["detail"]


def test_a_dead_delivery_is_sent_again_though_the_log_has_forgotten_it_and_the_receiver_failed_just_now(house: House) -> None:
    made = house.make()
    house.receiver.answer = 500
    house.happen("a")
    house.run()
    with house.units() as work:
        work.connection.execute(stream_log.stream_event.delete())
        work.connection.execute(webhooks.webhook_delivery.update().values(state="dead", next_at=None))
    house.receiver.answer = 204
    house("POST", f"/{made['id']}/redeliver", {"delivery": house.delivery(made)["id"]}, status=202)
    house.run()
    assert house.delivery(made)["state"] == "delivered"


def test_everything_since_a_time_is_sent_again_and_what_was_missed_too(house: House) -> None:
    made = house.make(types=[QUEUED])
    house.happen("old")
    house.run()
    house.at.forward(60)
    house.happen("a")
    house.happen("noise", type=RESTARTED)
    house.run()
    body = {"url": URL, "types": [QUEUED]}
    house("PUT", f"/{made['id']}", {**body, "enabled": False})
    house.happen("missed")
    assert house("POST", f"/{made['id']}/redeliver", {"since": "2026-11-21T21:26:00Z"}, status=409)["detail"].endswith("enable it first")
    house("PUT", f"/{made['id']}", body)
    house.receiver.posts.clear()
    told = house("POST", f"/{made['id']}/redeliver", {"since": "2026-11-21T21:26:00Z"}, status=202)
    assert told == {"events": 3}
    house.run()
    assert house.receiver.subjects == ["a", "missed"]
    assert len(house.deliveries(made)) == 3
    house.receiver.posts.clear()
    house("POST", f"/{made['id']}/redeliver", {"since": "2020-01-01T00:00:00Z"}, status=202)
    house.run()
    assert sorted(house.receiver.subjects) == ["a", "missed", "old"]
    house.receiver.posts.clear()
    house.happen("unread")
    assert house("POST", f"/{made['id']}/redeliver", {"since": "2030-01-01T00:00:00Z"}, status=202) == {"events": 1}
    house.run()
    assert house.receiver.subjects == ["unread"], "nothing that is still to come is skipped"


@pytest.mark.parametrize("told", [{}, {"delivery": NOBODY, "since": "2026-11-21T21:26:00Z"}])
def test_what_to_send_again_is_said_in_one_way(house: House, told: Any) -> None:
    made = house.make()
    assert "either" in house("POST", f"/{made['id']}/redeliver", told, status=422)["detail"]


def test_a_delivery_of_another_webhook_is_not_there(house: House) -> None:
    one, other = house.make(), house.make(types=[RESTARTED])
    house.happen("a")
    house.run()
    for id in (house.delivery(one)["id"], NOBODY, "x"):
        house("POST", f"/{other['id']}/redeliver", {"delivery": id}, status=404)


# ---- to be seen


def test_deliveries_come_newest_first_page_by_page(house: House) -> None:
    made = house.make()
    for number in range(5):
        house.happen(f"s{number}")
        house.run()
    seen: list[str] = []
    path = "?limit=2"
    while True:
        page = house("GET", f"/{made['id']}/deliveries{path}")
        seen += [one["subject"] for one in page["items"]]
        if page["next"] is None:
            break
        path = f"?limit=2&cursor={page['next']}"
    assert seen == ["s4", "s3", "s2", "s1", "s0"]
    house("GET", f"/{made['id']}/deliveries?cursor=x", status=422)
    house("GET", f"/{made['id']}/deliveries?state=lost", status=422)


def test_a_test_says_what_came_back_and_is_neither_kept_nor_tried_again(house: House) -> None:
    made = house.make(enabled=False)
    house.receiver.answer, house.receiver.body = 500, b"call +852 6778 6396"
    told = house("POST", f"/{made['id']}/test")
    assert told.items() >= {"accepted": False, "status": 500, "error": "", "answer": "call …"}.items()
    house.receiver.answer = Unreachable("no answer within 15 s")
    assert house("POST", f"/{made['id']}/test").items() >= {"accepted": False, "status": None, "error": "no answer within 15 s"}.items()
    house.receiver.answer = 202
    told = house("POST", f"/{made['id']}/test")
    assert told["accepted"]
    _, _, headers, body = house.receiver.posts[-1]
    event = verify_webhook(headers, body, made["secret"], now=house.at.seconds)
    assert (event["id"], event["type"], event["data"]) == (told["event"], "gateway.webhook_tested.v1", {"webhook": made["id"]})
    assert not house.deliveries(made)
    house.run()
    assert len(house.receiver.posts) == 3


def test_old_deliveries_are_forgotten_what_is_owed_is_not(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.courier.new_id", lambda: _id_at(house.at.seconds))
    made = house.make()
    house.happen("delivered")
    house.run()
    house.receiver.answer = 500
    house.happen("owed")
    house.run()
    couriers.prune(house.units, house.at.seconds + DAY - 60)
    assert len(house.deliveries(made)) == 2
    couriers.prune(house.units, house.at.seconds + DAY + 60)
    assert [one["subject"] for one in house.deliveries(made)] == ["owed"]
    couriers.prune(house.units, house.at.seconds + 31 * DAY)
    assert not house.deliveries(made)


def _id_at(seconds: float) -> str:
    return lowest_id(seconds)[:-12] + token_hex(6)


def test_the_metrics_tell_of_outcomes_and_of_the_oldest_that_is_owed(house: House) -> None:
    def outcomes() -> dict[str, float]:
        name = "answerline_gateway_webhook_deliveries_total"
        return {outcome: REGISTRY.get_sample_value(name, {"outcome": outcome}) or 0.0 for outcome in ("delivered", "retrying", "dead")}

    before = outcomes()
    house.make()
    house.receiver.answer = lambda subject: {"good": 204, "bad": 500, "gone": 410}[subject]
    house.happen("good")
    house.happen("bad")
    house.run()
    house.at.forward(60)
    house.receiver.answer = 500
    house.run()
    assert REGISTRY.get_sample_value("answerline_gateway_webhook_oldest_pending_seconds") == 60
    house.receiver.answer = 410
    house.at.forward(120)
    house.run()
    assert {name: count - before[name] for name, count in outcomes().items()} == {"delivered": 1, "retrying": 2, "dead": 1}
    house.at.forward(60)
    house.run()
    assert REGISTRY.get_sample_value("answerline_gateway_webhook_oldest_pending_seconds") == 0


# ---- chats


def test_a_chat_gets_sentences_and_only_of_what_there_are_any(house: House) -> None:
    webhook = house.make(types=["im.*", "routing.*"], format="slack")
    type = "im.escalation_claimed.v1"
    told = orjson.loads((EXAMPLES / f"{type}.json").read_bytes())
    house.happen("a call")
    with house.units() as work:
        stream_log.append(work, [Event(type, "room", contracts.load(type, told["data"]), house.at.seconds, 1)])
    house.receiver = house.courier._send = Posts()
    house.run()
    ((headers, body),) = house.receiver.posts
    assert (orjson.loads(body), headers["Content-Type"]) == ({"text": "K7Q2XM · router: bob has it"}, "application/json")
    assert headers["webhook-id"]
    assert house("POST", f"/{webhook['id']}/test")["accepted"]
    assert orjson.loads(house.receiver.posts[-1][1]) == {"text": "Answerline can be heard here."}


class Posts:
    """Takes whatever is posted."""

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], bytes]] = []

    def __call__(self, target: Target, headers: dict[str, str], body: bytes, allowance: Allowance) -> Reply:
        self.posts.append((headers, body))
        return Reply(200, Message(), b"ok")  # type: ignore[arg-type]


def test_a_chat_that_would_never_be_told_anything_is_refused(house: House) -> None:
    told = {"url": URL, "types": ["routing.*"], "format": "slack"}
    assert "im.expert_asked.v1" in house("POST", "", told, status=422)["errors"]["types"][0]
