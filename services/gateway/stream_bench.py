"""What thousands of listeners cost, and how soon they have an event, against a bare loop that writes to as many sockets.

Each gateway process is the real door with the real stream over one log (SQLite); the first of them also writes to the log. The listeners
are processes of their own, on the same cores: what they take is in every figure.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
import orjson

from shared import clock, config
from shared.config import SettingError

KEY = "al_bench"
PATIENCE_SECONDS = 120.0
CLIENTS = 2
QUEUES, AGENTS = 30, 2_000
TO_ALL = "routing.contact_released.v1"
BROADCASTS, BROADCAST_EVERY = 15, 0.4
RATE, RATE_SECONDS = 100, 8
AT_ONCE = 200
STALLED_SHARE, STALLED_SECONDS, STALLED_EVERY = 0.1, 13.0, 0.4
CLIENT_BUFFER_BYTES = 32_768
QUIET_SECONDS = 1.5
SOCKET_BYTES = 4_096
"""What the kernel holds for an idle connection: tcp_sock, inode, dentry, file, epoll item."""


@click.command()
@click.option("--listeners", default=3000, show_default=True)
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1, 4), help="Gateway processes that share them.")
@click.option("--json", "as_json", is_flag=True)
def stream(listeners: int, processes: int, as_json: bool) -> None:
    """Thousands of listeners: memory, and the time until each has what concerns it. Uses a database of its own in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        bare = _measure_bare(listeners)
        figures = _measure(Path(folder), listeners, processes)
    figures["bare_broadcast_seconds"] = bare
    figures["broadcast_ratio"] = round(bare / figures["broadcast_seconds"], 3)
    click.echo(json.dumps(figures) if as_json else "\n".join(f"{name}: {value}" for name, value in figures.items()))


def _measure_bare(listeners: int) -> float:
    with _server("bare", {}, str(listeners)) as server, _listening([server], listeners, "bare") as crowd:
        return round(statistics.median(_lasts(crowd.during(server.next_phase))), 4)


def _measure(folder: Path, listeners: int, processes: int) -> dict[str, Any]:
    environment = {
        "ANSWERLINE_DATA": str(folder), "ANSWERLINE_DATABASE_URL": "", "ANSWERLINE_BROKER_URL": "", "ANSWERLINE_ADMIN_KEY": KEY,
    }  # fmt: skip
    before = _kernel_bytes()
    with ExitStack() as stack:
        servers = [stack.enter_context(_server("gateway", environment, "writes" if not one else "reads")) for one in range(processes)]
        empty = sum(server.memory("VmRSS") for server in servers)
        crowd = stack.enter_context(_listening(servers, listeners, "mixed"))
        writer = servers[0]
        broadcasts = crowd.during(writer.next_phase)
        at_rate = crowd.during(writer.next_phase)
        at_once = crowd.during(writer.next_phase)
        took = max(at_once["last"]) - min(at_once["first"])
        idle = sum(server.memory("VmRSS") for server in servers)
        kernel = max(_kernel_bytes() - before, 0)
        crowd.stall()
        crowd.during(writer.next_phase)
        stalled = crowd.during(writer.next_phase)
        peak = sum(server.memory("VmHWM") for server in servers)
        most_kernel = max(_kernel_bytes() - before, kernel)
        cut = crowd.cut_off()
    sockets = listeners * SOCKET_BYTES
    return {
        "listeners": listeners,
        "processes": processes,
        "empty_mb": _mb(empty),
        "process_mb": _mb(idle),
        "process_peak_mb": _mb(peak),
        "kernel_mb": _mb(kernel + sockets),
        "kernel_peak_mb": _mb(most_kernel + sockets),
        "total_peak_mb": _mb(peak + most_kernel + sockets),
        "kilobytes_a_listener": round((idle - empty + sockets) / listeners / 1024, 1),
        "broadcast_seconds": round(statistics.median(_lasts(broadcasts)), 4),
        "broadcast_delivery_ms": _spread(broadcasts["delays"]),
        "events_per_second": RATE,
        "deliveries_per_second": round(at_rate["count"] / RATE_SECONDS),
        "delivery_ms": _spread(at_rate["delays"]),
        "at_once_deliveries_per_second": round(at_once["count"] / took),
        "stalled": int(listeners * STALLED_SHARE),
        "stalled_cut_off": cut,
        "delivery_ms_beside_stalled": _spread(stalled["delays"]),
    }


def _mb(size: float) -> float:
    return round(size / 1_000_000, 1)


def _spread(delays: list[float]) -> dict[str, float]:
    """Of a sample of delays in seconds, in milliseconds."""
    delays = sorted(delays)
    return {name: round(1000 * delays[int(share * (len(delays) - 1))], 1) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}


def _lasts(told: dict[str, Any]) -> list[float]:
    """Seconds from each event to the last listener that got it."""
    return list(told["last_by_event"].values())


def _kernel_bytes() -> int:
    """What TCP holds in buffers on this machine now, both ends of each connection."""
    line = next(line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    return int(line.split()[-1]) * os.sysconf("SC_PAGE_SIZE")


# ---- processes


class _Child:
    """A process of ours that is told what to do in lines and answers in lines."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", __name__, *arguments], env={**os.environ, **environment}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def say(self, word: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SettingError(f"a process of the bench ended with code {self.process.wait(10)}")
        return line.strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()

    def memory(self, name: str) -> int:
        """Bytes: VmRSS now, VmHWM at most so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1]) * 1024

    def next_phase(self) -> None:
        """Let the writer write what is next; returns when it has."""
        self.process.send_signal(signal.SIGUSR1)
        self.hear()


class _Server(_Child):
    port = 0


@contextmanager
def _server(kind: str, environment: dict[str, str], *arguments: str) -> Iterator[_Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    child = _Server(kind, str(port), *arguments, **environment, ANSWERLINE_HTTP=f"127.0.0.1:{port}")
    child.port = port
    try:
        child.hear()
        yield child
    finally:
        child.end()


class _Crowd:
    def __init__(self, children: list[_Child]) -> None:
        self.children = children

    def during(self, phase: Any) -> dict[str, Any]:
        """What all the listeners got while `phase` went on, and until nothing more came."""
        for child in self.children:
            child.say("count")
        phase()
        for child in self.children:
            child.say("report")
        told = [json.loads(child.hear()) for child in self.children]
        last: defaultdict[str, float] = defaultdict(float)
        for one in told:
            for event, delay in one["last_by_event"].items():
                last[event] = max(last[event], delay)
        return {
            "count": sum(one["count"] for one in told),
            "delays": [delay for one in told for delay in one["delays"]],
            "first": [one["first"] for one in told],
            "last": [one["last"] for one in told],
            "last_by_event": last,
        }

    def stall(self) -> None:
        for child in self.children:
            child.say("stall")

    def cut_off(self) -> int:
        for child in self.children:
            child.say("closed")
        return sum(int(child.hear()) for child in self.children)


@contextmanager
def _listening(servers: list[_Server], listeners: int, kind: str) -> Iterator[_Crowd]:
    ports = ",".join(str(server.port) for server in servers)
    share = [listeners // CLIENTS + (one < listeners % CLIENTS) for one in range(CLIENTS)]
    children = [_Child("listen", ports, kind, str(sum(share[:one])), str(count)) for one, count in enumerate(share)]
    try:
        for child in children:
            child.hear()
        yield _Crowd(children)
    finally:
        for child in children:
            child.end()


# ---- the listeners


def _topics(number: int) -> str:
    """What a centre listens to: mostly agents' desktops, some queues, a few wallboards and a few who want everything."""
    match number % 100:
        case 0:
            return "*"
        case one if one < 5:
            return f"live,{TO_ALL}"
        case one if one < 20:
            return f"queue:queue{number % QUEUES},{TO_ALL}"
        case _:
            return f"agent:agent{number % AGENTS},{TO_ALL}"


class _Listeners:
    """Many listeners, read by one process that does what it is told."""

    def __init__(self, ports: list[int], kind: str, first: int, count: int) -> None:
        self.selector = selectors.DefaultSelector()
        self.rest: dict[socket.socket, bytes] = {}
        for number in range(first, first + count):
            self._join(ports[number % len(ports)], _topics(number), answers=kind != "bare")
        self.stalling = list(self.rest)[:: int(1 / STALLED_SHARE)]
        self.closed: set[socket.socket] = set()
        self.counting = _Counting()
        self.wanted_at = 0.0

    def _join(self, port: int, topics: str, answers: bool) -> None:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CLIENT_BUFFER_BYTES)
        one.settimeout(PATIENCE_SECONDS)
        one.connect(("127.0.0.1", port))
        one.sendall(f"GET /v1/stream?topics={topics} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
        if answers and not one.recv(4096).startswith(b"HTTP/1.1 200"):
            raise SettingError("the door did not let a listener in")
        one.setblocking(False)
        self.selector.register(one, selectors.EVENT_READ)
        self.rest[one] = b""

    def live(self) -> None:
        """Until killed. What was counted is told when nothing more comes."""
        _say("ready")
        self.selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in self.selector.select(0.2):
                if isinstance(key.fileobj, socket.socket):
                    self._read(key.fileobj)
                else:
                    self._obey(sys.stdin.readline().strip())
            if self.wanted_at and time.monotonic() - max(self.wanted_at, self.counting.heard_at) > QUIET_SECONDS:
                self.wanted_at = 0.0
                _say(json.dumps(self.counting.told()))

    def _obey(self, word: str) -> None:
        match word:
            case "count":
                self.counting = _Counting()
            case "report":
                self.wanted_at = time.monotonic()
            case "stall":
                for one in self.stalling:
                    self.selector.unregister(one)
            case "closed":
                _say(str(len(self.closed.union(filter(_is_closed, self.stalling)))))

    def _read(self, one: socket.socket) -> None:
        try:
            read = one.recv(262_144)
        except ConnectionError:
            read = b""
        if read:
            self.rest[one] = self.counting.take(self.rest[one] + read)
        else:
            self.selector.unregister(one)
            self.closed.add(one)


def _is_closed(one: socket.socket) -> bool:
    """Whether what was sent to it ends, as far as one can read."""
    try:
        while one.recv(262_144):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


class _Counting:
    """Counts events, and how long each was on its way: each has the time at which it happened."""

    def __init__(self) -> None:
        self.count = 0
        self.delays: list[float] = []
        self.last_by_event: dict[str, float] = {}
        self.first, self.last, self.heard_at = 0.0, 0.0, 0.0

    def take(self, read: bytes) -> bytes:
        """Returns what is not whole yet."""
        now = time.time()
        start = 0
        while (end := read.find(b"\n\n", start)) >= 0:
            at = read.find(b'"time":"', start, end)
            if at >= 0:
                self._event(read[at + 8 : at + 32].decode(), now)
            start = end + 2
        return read[start:]

    def _event(self, at: str, now: float) -> None:
        delay = max(now - clock.from_text(at), 0.0)
        self.count += 1
        self.heard_at = time.monotonic()
        self.first, self.last = self.first or now, now
        if self.count % 7 == 0:
            self.delays.append(delay)
        self.last_by_event[at] = max(self.last_by_event.get(at, 0.0), delay)

    def told(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("count", "delays", "last_by_event", "first", "last")}


def _say(word: str) -> None:
    print(word, flush=True)


# ---- the servers


def _serve_bare(port: int, listeners: int) -> None:
    """No HTTP, no log, no topics: each event is written to all sockets, one after the other."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listening:
        _say("ready")
        sockets = [listening.accept()[0] for _ in range(listeners)]
        for one in sockets:
            one.recv(4096)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        signal.sigwait([signal.SIGUSR1])
        for number in range(BROADCASTS):
            frame = b"id: %d\nevent: %b\ndata: %b\n\n" % (number, TO_ALL.encode(), orjson.dumps(_event(number, to_all=True).envelope()))
            for one in sockets:
                one.sendall(frame)
            time.sleep(BROADCAST_EVERY)
        _say("written")
        signal.sigwait([signal.SIGUSR1])


def _event(number: int, to_all: bool = False) -> Any:
    from shared.bus.envelope import Event
    from shared.ids import new_id

    contact, now = new_id(), clock.now()
    data = {
        "contact": contact, "leg": 1, "source": "bench", "queue": f"queue{number % QUEUES}", "channel": "voice", "customer": "c1",
        "direction": "inbound", "observed": False, "at": now,
    }  # fmt: skip
    if to_all:
        return Event(TO_ALL, contact, data | {"reason": "bench"}, now, number)
    return Event("routing.contact_assigned.v1", contact, data | {"agent": f"agent{number % AGENTS}"}, now, number)


def _serve(writes: bool) -> None:
    from shared.runtime import patch

    patch.apply()
    from services.gateway import definition, metrics
    from services.gateway.service import GatewayCore, GatewayService
    from shared.http.endpoint import Router
    from shared.http.wsgi import Application
    from shared.runtime import context, runner
    from shared.runtime.web import HttpServer, listen

    settings = config.load()
    if writes:
        runner.migrate_all(settings, [definition])
    service: Any = GatewayService()
    service.core = GatewayCore(context.build("gateway", settings))
    service.routing = _Routing()
    server = HttpServer(listen(settings.http_address), Application(Router(service), service.authenticate, metrics.observe))
    for work in (server.serve, partial(_again, service.tell_listeners, 0.0), partial(_again, service.tell_figures, 0.3)):
        threading.Thread(target=work, daemon=True).start()
    go = threading.Semaphore(0)
    signal.signal(signal.SIGUSR1, lambda *_: go.release())
    _say("ready")
    for phase in (_broadcasts, _at_rate, _at_once, _fill_buffers, _beside_stalled):
        go.acquire()
        phase(service.core)
        _say("written")
    go.acquire()


class _Routing:
    """Answers for routing: a wallboard of so many queues and agents on which something always changes."""

    def report_live(self, since: float) -> dict[str, Any]:
        queues = [{"queue": f"queue{number}", "waiting": number, "talking": 3, "answered": since} for number in range(QUEUES)]
        agents = [{"agent": f"agent{number}", "state": "available", "since": clock.now()} for number in range(100)]
        return {"queues": queues, "agents": agents}


def _again(step: Any, pause: float) -> None:
    while True:
        step()
        time.sleep(pause)


def _write(core: Any, events: list[Any]) -> None:
    """As the inbox does."""
    with core.units() as work:
        core.stream.write(work, events)
    core.board.changes += 1


def _broadcasts(core: Any) -> None:
    for number in range(BROADCASTS):
        _write(core, [_event(number, to_all=True)])
        time.sleep(BROADCAST_EVERY)


def _at_rate(core: Any) -> None:
    began = time.monotonic()
    for number in range(RATE * RATE_SECONDS):
        _write(core, [_event(number)])
        time.sleep(max(began + (number + 1) / RATE - time.monotonic(), 0))


def _at_once(core: Any) -> None:
    _write(core, [_event(number, to_all=True) for number in range(AT_ONCE)])


def _fill_buffers(core: Any) -> None:
    """Of those who do not read."""
    for _ in range(2):
        _at_once(core)


def _beside_stalled(core: Any) -> None:
    for number in range(int(STALLED_SECONDS / STALLED_EVERY)):
        time.sleep(STALLED_EVERY)
        _write(core, [_event(number, to_all=True)])


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["listen", ports, kind, first, count]:
            _Listeners([int(port) for port in ports.split(",")], kind, int(first), int(count)).live()
        case ["bare", port, listeners]:
            _serve_bare(int(port), int(listeners))
        case ["gateway", _port, what]:
            _serve(what == "writes")
