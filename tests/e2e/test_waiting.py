"""Five hundred callers wait at once, and everybody else is served as if they were not there."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from tests.e2e.centre import Centre, answer_on
from tests.system import System, eventually, raw_request

CALLERS = 500
POLLS = 'answerline_gateway_waiting_requests{kind="assignment"}'


def test_500_long_polls_wait_while_other_requests_are_answered(system: System, name: str) -> None:
    crowd, others = Centre(system, f"{name}_crowd"), Centre(system, name)
    now, people = int(time.time()), system.patient()
    with ThreadPoolExecutor(16) as pool:
        arrivals = ({"event": "call.arrived", "queue": crowd.queue, "callid": f"{name}.{number}", "at": now} for number in range(CALLERS))
        for answer in pool.map(lambda told: people.post("/v1/telephony/asterisk/dialplan", told, source=crowd.name), arrivals):
            answer.ok()
    system.settle()
    with ExitStack() as calls, ThreadPoolExecutor(8) as pool:
        lines: list[socket.socket] = []

        def all_hang() -> bool:
            for number, line in enumerate(lines):  # a question that waits longer than its deadline for a processor is refused
                crowd.come_back(f"{crowd.name}:{name}.{number}", line, wait=100)
            return system.metrics("gateway").get(POLLS, 0) >= len(lines)

        for first in range(0, CALLERS, 50):
            group = range(first, first + 50)
            lines += [calls.enter_context(crowd.hanging(f"{crowd.name}:{name}.{number}", wait=100)) for number in group]
            eventually(all_hang)

        def serve_one(number: int) -> None:
            agent = others.agent(f"a{number}", queues=[others.queue])
            contact = others.call(required_skills={"zh": 1})
            assert others.contact(contact)
            assert people.get(f"/v1/agents/{agent}").ok()["id"] == agent
            assert people.get("/v1/reports/queues", source=crowd.name).ok()["queues"][0]["waiting"] == CALLERS
            assert system.get("/readyz").status == 200

        list(pool.map(serve_one, range(16)))
        served = {others.offer(f"{others.name}_a{number}")["contact"] for number in range(16)}
        assert len(served) == 16

        # one of the crowd is served, one hangs up: both are answered, nobody else is
        agent = crowd.agent("only")
        offer = crowd.offer(agent)
        crowd.accept(agent, offer)
        first = next(number for number in range(CALLERS) if crowd.contact(f"{crowd.name}:{name}.{number}")["contact"] == offer["contact"])  # type: ignore[index]
        assert answer_on(lines[first])["agent"] == agent
        assert people.post(f"/v1/contacts/{crowd.name}:{name}.{CALLERS - 1}/end", {}).status == 202
        assert answer_on(lines[CALLERS - 1])["state"] == "abandoned"
        eventually(lambda: system.metrics("gateway").get(POLLS, 0) == CALLERS - 2)
    eventually(lambda: system.metrics("gateway").get(POLLS, 0) == 0, within=30)
    assert system.get("/livez").status == 200


def test_head_of_a_stream_ends(system: System) -> None:
    head = f"HEAD /v1/stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {system.key}\r\n\r\n"
    assert raw_request(system.address, head.encode(), timeout=10).startswith(b"HTTP/1.1 200")
