"""The bridge against a scripted event socket: real bytes over a local socket, breaks, snapshots, and nothing counted twice."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.gateway import handlers, store
from services.gateway.bridges import bridge, freeswitch
from services.gateway.bridges.freeswitch import Broken, Denied, EventSocket, Follower, Imported, import_records, snapshot, table
from services.gateway.bridges.kernel import Answer, Pauses, Poster, Spool
from services.gateway.domain import freeswitch as domain
from services.gateway.handlers import Reading, Taken
from shared.bus.outbox import UnitOfWork
from tests.unit.conftest import MakeUnits
from tests.unit.gateway.freeswitch_samples import CORE, TRUTH, Call, T, as_base64, as_form, calls, events, frame, records, uuid

PASSWORD = "ClueCon"
Event = dict[str, str]


@dataclass
class Turn:
    """What one connection of the bridge meets: what there is when it asks, then the events, and then the line is cut (or the bridge stops)."""

    events: Sequence[Event] = ()
    members: Sequence[dict[str, str]] = ()
    agents: Sequence[dict[str, str]] = ()
    channels: Sequence[str] = ()
    before: Sequence[Event] = ()
    """events that come while the snapshot is still being asked for"""
    core: str = CORE
    cut_after: int | None = None
    """bytes of the last event that still arrive"""
    password: str = PASSWORD
    at: float = T + 2000


@dataclass
class FreeSwitch:
    """mod_event_socket as it speaks: one thread, one connection after the other."""

    turns: list[Turn]
    asked: list[str] = field(default_factory=list)
    sent: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = self.server.getsockname()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, 5)

    def _serve(self) -> None:
        for number, turn in enumerate(self.turns):
            connection, _ = self.server.accept()
            with connection:
                try:
                    self._speak(connection, turn, last=number == len(self.turns) - 1)
                except OSError:
                    continue

    def _speak(self, connection: socket.socket, turn: Turn, last: bool) -> None:
        connection.sendall(b"Content-Type: auth/request\n\n")
        lines = connection.makefile("rb")
        before = list(turn.before)
        for command in self._commands(lines):
            self.asked.append(command)
            if command.startswith("auth "):
                fine = command == f"auth {turn.password}"
                connection.sendall(b"Content-Type: command/reply\nReply-Text: %b\n\n" % (b"+OK accepted" if fine else b"-ERR invalid"))
                if not fine:
                    connection.sendall(b"Content-Type: text/disconnect-notice\nContent-Length: 3\n\nbye")
                    return
            elif command.startswith("event "):
                connection.sendall(b"Content-Type: command/reply\nReply-Text: +OK event listener enabled plain\n\n")
            else:
                if before:
                    connection.sendall(frame(before.pop(0)))
                body = self._api(command.removeprefix("api "), turn).encode()
                connection.sendall(b"Content-Type: api/response\nContent-Length: %d\n\n%b" % (len(body), body))
                if command == "api show channels as json":
                    break
        stream = b"".join(map(frame, turn.events))
        cut = len(stream) if turn.cut_after is None else len(b"".join(map(frame, turn.events[:-1]))) + turn.cut_after
        connection.sendall(stream[:cut])
        if last:
            self.sent.set()
            while connection.recv(4096):  # until the bridge goes
                pass

    @staticmethod
    def _commands(lines: Iterator[bytes]) -> Iterator[str]:
        for line in lines:
            if line.strip():
                yield line.decode().strip()

    @staticmethod
    def _api(command: str, turn: Turn) -> str:
        answers = {
            "strepoch": str(int(turn.at)),
            "global_getvar core_uuid": turn.core,
            "uptime s": "5000",
            "callcenter_config agent list": _table(turn.agents),
            "callcenter_config queue list": "name|strategy\nsupport@default|ring-all\nsales@default|ring-all\n+OK\n",
            "show channels as json": json.dumps({"row_count": len(turn.channels), "rows": [{"uuid": one} for one in turn.channels]}),
        }
        queue = command.removeprefix("callcenter_config queue list members ")
        return answers.get(command) or _table([row for row in turn.members if row["queue"] == queue])


def _table(rows: Sequence[dict[str, str]]) -> str:
    """list_result_callback(): names only where there is a row."""
    return "".join("|".join(line) + "\n" for line in ([list(rows[0])] if rows else []) + [list(row.values()) for row in rows]) + "+OK\n"


def member(call: Call, state: str, **more: str) -> dict[str, str]:
    row = {"queue": call.queue, "instance_id": "single_box", "uuid": call.member, "session_uuid": call.session, "cid_number": call.number}
    return {
        **row,
        "cid_name": call.caller,
        "joined_epoch": str(call.joined),
        "bridge_epoch": "0",
        "serving_agent": "",
        "state": state,
        **more,
    }


# ---- a gateway without the network


class Gateway:
    """The door's own reading and storing, and what it answers."""

    def __init__(self, units: UnitOfWork) -> None:
        self.units = units
        self.down = 0
        self.counts: Counter[str] = Counter()

    def post(self, path: str, body: bytes, content_type: str) -> Answer:
        if self.down:
            self.down -= 1
            return Answer(503, {"detail": "the database is away"}, 0.0)
        events = path.startswith(freeswitch.EVENTS)
        readings = handlers.read_freeswitch_events(body, T) if events else [handlers.read_freeswitch_cdr(body, T)]
        answer: dict[str, object] = {"rejected": []}
        for reading in readings:
            self.take(reading, answer)
        return Answer(200, answer)

    def take(self, reading: Reading, answer: dict[str, object]) -> None:
        (receipt,) = handlers.take_in(self.units, [Taken("fs1", "freeswitch", reading)])
        self.counts.update(accepted=receipt.accepted, duplicate=receipt.duplicate, rejected=receipt.rejected_total)
        answer["rejected"] = [*answer["rejected"], *receipt.rejected]  # type: ignore[misc]

    def close(self) -> None:
        pass

    def legs(self) -> dict[str, list[tuple[str, str, str | None]]]:
        while handlers.correlate(self.units):
            pass
        names = {uuid(f"session {name}"): name for name in [*TRUTH, "waits", "gone", "new", "talks"]}
        with self.units.database.reading() as connection:
            rows = connection.execute(store.contact.select().where(store.contact.c.merged_into.is_(None))).all()
        return {names[row.legs[0]["call"]]: [(leg["queue"], leg["outcome"], leg["agent"]) for leg in row.legs] for row in rows if row.legs}


@pytest.fixture
def gateway(make_units: MakeUnits) -> Gateway:
    return Gateway(make_units(store.metadata))


def follow(gateway: Gateway, tmp_path: Path, turns: list[Turn]) -> FreeSwitch:
    """Let the bridge meet all turns, and end when the last has been heard."""
    fs = FreeSwitch(turns)
    poster = Poster(gateway, freeswitch.EVENTS, Spool(tmp_path / "spool"), pauses=Pauses(0.001, 0.002))
    follower = Follower(fs.connect, PASSWORD, poster, threading.Event(), Pauses(0.001, 0.002), silence=5)
    said = Counted(poster)
    follower.poster = said  # type: ignore[assignment]
    thread = threading.Thread(target=follower.run)
    thread.start()
    assert fs.sent.wait(20)
    said.wait_for_last(turns[-1])
    follower.stop()
    thread.join(10)
    poster.close()
    fs.server.close()
    assert not thread.is_alive()
    return fs


class Counted:
    """The poster, and a way to wait until the last turn's last event went through it."""

    def __init__(self, poster: Poster) -> None:
        self.poster, self.lines = poster, []  # type: ignore[var-annotated]
        self.more = threading.Condition()

    def put(self, item: bytes) -> bool:
        with self.more:
            self.lines.append(json.loads(item))
            self.more.notify_all()
        return self.poster.put(item)

    def wait_for_last(self, turn: Turn) -> None:
        stamp = turn.events[-1]["Event-Date-Timestamp"] if turn.events else None

        def there() -> bool:
            last = self.lines[-1] if self.lines else {}
            return last.get("Event-Date-Timestamp") == stamp if stamp else last.get("snapshot") == "channels"

        with self.more:
            assert self.more.wait_for(there, 20)


def outcomes(
    truth: dict[str, list[tuple[str, str, str | None, float, float | None, dict[str, int]]]],
) -> dict[str, list[tuple[str, str, str | None]]]:
    return {name: [leg[:3] for leg in legs] for name, legs in truth.items()}


# ---- following


def test_every_call_is_counted_once_however_often_the_line_is_cut(gateway: Gateway, tmp_path: Path) -> None:
    said = events()
    turns = [Turn(events=said[:20], cut_after=30), Turn(events=said[19:40]), Turn(events=said[35:])]
    follow(gateway, tmp_path, turns)
    assert gateway.legs() == outcomes(TRUTH)
    assert gateway.counts["duplicate"] >= 5 and gateway.counts["rejected"] == 0


def test_two_bridges_and_the_records_beside_change_no_figure(gateway: Gateway, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        follow(gateway, tmp_path / folder, [Turn(events=events())])
    for _, record in records():
        gateway.post(freeswitch.RECORDS, as_form(record), "application/x-www-form-urlencoded")
    assert gateway.legs() == outcomes(TRUTH)


def test_nothing_is_lost_while_the_gateway_is_down(gateway: Gateway, tmp_path: Path) -> None:
    gateway.down = 25
    follow(gateway, tmp_path, [Turn(events=events())])
    while gateway.down:  # what close() left waits for the next start
        follow(gateway, tmp_path, [Turn()])
    follow(gateway, tmp_path, [Turn()])
    assert gateway.legs() == outcomes(TRUTH)


def test_the_snapshot_after_a_break_repairs_the_gap(gateway: Gateway, tmp_path: Path) -> None:
    waits, gone, talks = Call("waits", T), Call("gone", T + 1), Call("talks", T + 2)
    new = Call("new", T + 100)
    before = [*waits.told, *gone.told, *talks.told]
    talks.offered("1000@default", T + 100).answered("1000@default", T + 100, T + 105)
    agents = [
        {"name": "1000@default", "uuid": talks.channel, "contact": "user/1000|user/2000", "status": "Available", "state": "In a queue call"}
    ]
    serving = member(talks, "Answered", bridge_epoch=str(int(T + 105)), serving_agent="1000@default")
    members = [member(waits, "Waiting"), member(new, "Trying"), serving, member(Call("gone", T + 1), "Abandoned", session_uuid="")]
    there = [one.session for one in (waits, new, talks)]
    follow(gateway, tmp_path, [Turn(before, at=T), Turn(members=members, agents=agents, channels=there, at=T + 200)])
    assert gateway.legs() == {
        "waits": [("support@default", "waiting", None)],
        "new": [("support@default", "waiting", None)],
        "talks": [("support@default", "talking", "1000@default")],
        "gone": [("support@default", "lost", None)],
    }
    talks.completed(T + 300)
    follow(gateway, tmp_path, [Turn(talks.told[-3:], channels=there[:2], members=members[:2], at=T + 250)])
    assert gateway.legs()["talks"] == [("support@default", "completed", "1000@default")]


def test_a_new_core_ends_what_the_old_one_had(gateway: Gateway, tmp_path: Path) -> None:
    waits = Call("waits", T)
    follow(gateway, tmp_path, [Turn(waits.told, at=T), Turn(core="another-core", at=T + 9000)])
    assert gateway.legs() == {"waits": [("support@default", "lost", None)]}


def test_what_comes_while_the_snapshot_is_asked_for_is_not_lost(gateway: Gateway, tmp_path: Path) -> None:
    said = events()
    fs = follow(gateway, tmp_path, [Turn(before=said[:5], events=said[5:])])
    assert gateway.legs() == outcomes(TRUTH)
    assert fs.asked[1] == freeswitch.SUBSCRIBE, "first subscribed, then asked: nothing can happen between"
    assert "CHANNEL_HOLD CHANNEL_UNHOLD" in freeswitch.SUBSCRIBE.partition("CUSTOM")[0], "what follows CUSTOM are its kinds"


def test_a_heartbeat_is_no_news(gateway: Gateway, tmp_path: Path) -> None:
    beat = {"Event-Name": "HEARTBEAT", "Core-UUID": CORE, "Event-Date-Timestamp": "1"}
    follow(gateway, tmp_path, [Turn(events=[beat, *events()])])
    assert gateway.counts["rejected"] == 0 and gateway.legs() == outcomes(TRUTH)


def test_headers_that_nobody_reads_do_not_leave_the_bridge(gateway: Gateway, tmp_path: Path) -> None:
    seen: list[bytes] = []
    gateway.post = lambda path, body, kind: (seen.append(body), Answer(200, {}))[1]  # type: ignore[method-assign]
    follow(gateway, tmp_path, [Turn(events=events())])
    assert b"FreeSWITCH-Hostname" not in b"".join(seen)
    assert all(set(line) <= domain.READ for line in map(json.loads, b"".join(seen).splitlines()) if "snapshot" not in line)


def test_a_full_spool_is_a_gap_that_the_next_snapshot_repairs(gateway: Gateway, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", most_bytes=8000, segment_bytes=2000)
    poster = Poster(gateway, freeswitch.EVENTS, spool)
    fs = FreeSwitch([Turn(events=events()), Turn()])
    follower = Follower(fs.connect, PASSWORD, poster, threading.Event())
    with pytest.raises(Broken, match="full"):
        follower._follow()
    assert poster.counts.lost == 1


# ---- the protocol


def session(*said: bytes, silence: float = 5) -> EventSocket:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"".join(said))
    theirs.shutdown(socket.SHUT_WR)
    fs = EventSocket(ours, silence)
    fs.theirs = theirs  # type: ignore[attr-defined]
    return fs


AUTH, OK = b"Content-Type: auth/request\n\n", b"Content-Type: command/reply\nReply-Text: +OK accepted\n\n"


@pytest.mark.parametrize(
    ("said", "error", "says"),
    [
        ([AUTH, b"Content-Type: command/reply\nReply-Text: -ERR invalid\n\n"], Denied, "password"),
        ([b"Content-Type: text/rude-rejection\nContent-Length: 24\n\nAccess Denied, go away.\n"], Denied, "acl"),
        ([b"SSH-2.0-OpenSSH_9.2\n\n"], Broken, "port of mod_event_socket"),
        ([b"Content-Length: x\n\n"], Broken, "Content-Length"),
        ([AUTH], Broken, "closed"),
        ([], Broken, "closed"),
    ],
)
def test_what_goes_wrong_at_the_door_says_what_to_mend(said: list[bytes], error: type[Broken], says: str) -> None:
    with pytest.raises(error, match=says):
        session(*said).authenticate(PASSWORD)


def test_silence_ends_a_connection() -> None:
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(Broken, match="heartbeat"):
        next(EventSocket(ours, 0.01).events())


def test_a_notice_of_the_end_ends_it() -> None:
    fs = session(AUTH, OK, frame(events()[0]), b"Content-Type: text/disconnect-notice\nContent-Length: 4\n\nbye\n")
    fs.authenticate(PASSWORD)
    heard = []
    with pytest.raises(Broken, match="ended"):
        for one in fs.events():
            heard.append(one)
    assert len(heard) == 1


def test_a_command_cannot_hold_another() -> None:
    with pytest.raises(ValueError, match="one line"):
        session().api("status\n\napi shutdown")


def test_tables_of_callcenter_config() -> None:
    text = "name|contact|status\na@d|user/1|Available\nb@d|user/2|user/3|On Break\nbroken|row\n+OK\n"
    assert table(text, free="contact") == [
        {"name": "a@d", "contact": "user/1", "status": "Available"},
        {"name": "b@d", "contact": "user/2|user/3", "status": "On Break"},
    ]
    assert table("+OK\n") == table("-ERR no such command\n") == table("") == []


@pytest.mark.parametrize("said", ["-ERR no reply", "{}", '{"row_count":2,"rows":[{"uuid":"a"}]}', "[]", '{"row_count":1,"rows":[{}]}'])
def test_a_list_of_channels_that_may_not_be_whole_proves_nothing(said: str) -> None:
    def answer(text: str) -> bytes:
        return b"Content-Type: api/response\nContent-Length: %d\n\n%b" % (len(text), text.encode())

    lines = snapshot(session(*map(answer, [str(int(T)), CORE, "10", "+OK\n", "+OK\n", said])))
    assert [line["snapshot"] for line in lines] == ["core"]


# ---- records on disk


def spool_of(folder: Path, old: bool = True) -> list[Path]:
    files = []
    for number, (name, record) in enumerate(records()):
        path = folder / ("2026-08-06-10-00-00" if number % 2 else ".") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        body = [as_form(record)[4:], as_base64(record)[4:]][number % 2]  # what err-log-dir gets: the body without its field's name
        path.write_bytes(body + b"\n")
        if old:
            os.utime(path, (T, T + number))
        files.append(path)
    return files


def bring_in(gateway: Gateway, folder: Path, tries: int = 3) -> Imported:
    return import_records(gateway, freeswitch.RECORDS, folder, threading.Event(), tries, Pauses(0.0001, 0.0001))


def test_records_are_brought_in_once_and_put_away(gateway: Gateway, tmp_path: Path) -> None:
    files = spool_of(tmp_path)
    assert bring_in(gateway, tmp_path) == Imported(delivered=len(files))
    assert not any(path.exists() for path in files)
    assert len(list((tmp_path / "delivered").rglob("*.cdr.json"))) == len(files)
    assert bring_in(gateway, tmp_path) == Imported()
    assert {name: [leg[1] for leg in legs] for name, legs in gateway.legs().items()} == {
        name: [leg[1] for leg in legs] for name, legs in TRUTH.items()
    }


def test_what_the_gateway_did_not_take_stays_for_the_next_run(gateway: Gateway, tmp_path: Path) -> None:
    files = spool_of(tmp_path)
    gateway.down = 3
    assert bring_in(gateway, tmp_path) == Imported(left=len(files))
    assert all(path.exists() for path in files)
    gateway.down = 2
    assert bring_in(gateway, tmp_path) == Imported(delivered=len(files))


def test_a_record_that_cannot_be_read_stays_and_hinders_none(gateway: Gateway, tmp_path: Path) -> None:
    files = spool_of(tmp_path)
    broken = tmp_path / "a_x.cdr.json"
    broken.write_bytes(b'{"variables":')
    os.utime(broken, (T - 1, T - 1))
    assert bring_in(gateway, tmp_path) == Imported(delivered=len(files), refused=1)
    assert broken.exists()


def test_a_file_just_written_waits_for_the_next_run(gateway: Gateway, tmp_path: Path) -> None:
    spool_of(tmp_path, old=False)
    assert bring_in(gateway, tmp_path) == Imported()


# ---- commands


def test_commands_say_what_is_missing(tmp_path: Path) -> None:
    run = CliRunner()
    told = run.invoke(bridge, ["freeswitch", "--spool", str(tmp_path)], env={"ANSWERLINE_KEY": "", "FREESWITCH_PASSWORD": "x"})
    assert told.exit_code == 2 and "ANSWERLINE_KEY" in told.output
    told = run.invoke(bridge, ["freeswitch", "--spool", str(tmp_path)], env={"ANSWERLINE_KEY": "k", "FREESWITCH_PASSWORD": ""})
    assert told.exit_code == 2 and "FREESWITCH_PASSWORD" in told.output
    told = run.invoke(bridge, ["freeswitch-cdr-spool", str(tmp_path), "--to", "nowhere"], env={"ANSWERLINE_KEY": "k"})
    assert told.exit_code == 1 and "http://127.0.0.1:8000" in told.output
    assert "--spool" not in run.invoke(bridge, ["freeswitch-cdr-spool", "--help"]).output, "it keeps nothing: the files are there"
    assert "--spool" in run.invoke(bridge, ["freeswitch", "--help"]).output
    assert {"freeswitch", "freeswitch-cdr-spool"} <= set(run.invoke(bridge, ["--help"]).output.split())


def test_calls_made_up_are_all_told() -> None:
    assert {call.name for call in calls()} == set(TRUTH)
