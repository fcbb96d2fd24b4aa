"""Two processes of a service: of routing one stands by, of the gateway both take in and one correlates; either may die."""

from __future__ import annotations

import time

from tests.chaos import checks
from tests.chaos.harness import Chaos
from tests.chaos.load import Floor, Pbx, until
from tests.chaos.synthetic import Say
from tests.system import eventually

TAKE_OVER_SECONDS = 10.0
CORRELATED = "answerline_gateway_correlated_observations_total"


def test_the_second_routing_takes_over(deployed: Chaos, say: Say) -> None:
    system = deployed
    system.put("/v1/queues/q", {"mode": "routed", "offer_seconds": 60}).ok()
    for agent in ("first", "second"):
        system.put(f"/v1/agents/{agent}", {"channels": ["voice"], "queues": ["q"], "address": agent}).ok()
    system.put("/v1/agents/first/state", {"state": "available"}).ok()
    with system.twin() as twin:
        twin.start("routing", wait=False)
        eventually(lambda: "standing by" in system.log("routing", 10**6))
        contacts = [system.post("/v1/contacts", {"queue": "q", "source": "s", "call": call}).ok()["contact"] for call in "ab"]
        offered = eventually(lambda: system.get("/v1/agents/first/offers", wait=1).ok()["offers"])[0]
        eventually(lambda: system.post(f"/v1/contacts/{contacts[1]}/assignment").ok()["queue"] == "q")
        took = []
        for active, standby in ((system, twin), (twin, system)):
            active.kill("routing")
            began = time.monotonic()
            eventually(lambda: system.put("/v1/agents/second/state", {"state": "available"}).status == 200, TAKE_OVER_SECONDS)
            found = eventually(lambda: system.get("/v1/agents/second/offers", wait=1).json.get("offers"), TAKE_OVER_SECONDS)
            took.append(round(time.monotonic() - began, 1))
            assert took[-1] <= TAKE_OVER_SECONDS
            assert {found[0]["contact"], offered["contact"]} == set(contacts), "who waited is offered, who was offered still is"
            assert system.get("/v1/agents/first/offers").ok()["offers"][0]["id"] == offered["id"]
            assert standby.running("routing")
            active.start("routing", wait=False)
            eventually(lambda: system.log("routing", 10**6).count("standing by") >= len(took) + 1)
        for agent, offer in (("first", offered), ("second", found[0])):
            system.post(f"/v1/offers/{offer['id']}/accept", {"agent": agent}).ok()
        for contact in contacts:
            system.post(f"/v1/contacts/{contact}/end", {}).ok()
        checks.settled(system)
        say({"took over in": took, **checks.nothing_lost_or_twice(system)})


def test_two_gateways(deployed: Chaos, seed: int, say: Say) -> None:
    system = deployed
    with system.twin() as twin:
        twin.start("gateway")
        with (
            Pbx([system, twin], seed).working() as pbx,
            Floor([system, twin], seed).open().working() as floor,
        ):
            until(pbx, lambda: pbx.posts >= 30)
            both = [one.metrics("gateway").get(CORRELATED, 0.0) for one in (system, twin)]
            assert min(both) == 0 < max(both), "one correlates"
            for one, other in ((system, twin), (twin, system)):
                one.kill("gateway")
                enough = pbx.posts + 30
                until(pbx, lambda enough=enough: pbx.posts >= enough)
                eventually(lambda other=other: other.metrics("gateway").get(CORRELATED, 0.0) > 0, 10)
                one.start("gateway")
        checks.settled(system)
        say({**checks.nothing_lost_or_twice(system), **checks.pbx(system, pbx), **checks.floor(system, floor)})
