"""The bridges' doors and commands against the running system."""

from __future__ import annotations

import gzip
from pathlib import Path

from tests.contract.telephony import agents, doubts, queues, true_agents, true_queues
from tests.system import System
from tests.unit.gateway import telephony_samples as samples

AMI_GAP = b"\n".join(samples.ami_lines("ami_gap"))
ARI_LINES = samples.ami_lines("ari_events") + samples.ami_lines("ari_holds")
ARI = b"\n".join(ARI_LINES)
ATTENDED = "1795296280.129"
"""Its agent put the caller on hold and asked somebody; the transfer ended that."""
LOG_RUN2 = gzip.decompress((samples.DATA / "queue_log_run2.gz").read_bytes())


def post(system: System, name: str, door: str, body: bytes) -> dict[str, int]:
    return system.post(f"/v1/telephony/asterisk/{door}", body, headers={"Content-Type": "application/x-ndjson"}, source=name).ok()


def test_ari_events_alone_give_every_call_and_beside_the_queue_log_change_nothing(system: System, name: str) -> None:
    receipt = post(system, name, "ari", ARI)
    assert receipt["accepted"] + receipt["ignored"] + receipt["duplicate"] == len(ARI_LINES)
    system.settle()
    told, truth = queues(system, name), true_queues()
    for figure in ("offered", "answered", "abandoned", "left_by_key"):
        assert {queue: row[figure] for queue, row in told.items()} == {queue: row[figure] for queue, row in truth.items()}
    (leg,) = system.get(f"/v1/contacts/{name}:{ATTENDED}").ok()["legs"]
    assert (leg["outcome"], leg["holds"], round(leg["on_hold_seconds"])) == ("transferred", 1, 7)
    facts = system.get(f"/v1/contacts/{name}:{ATTENDED}/quality").ok()
    assert (facts["holds"], facts["hold_seconds"]) == (1, leg["on_hold_seconds"])
    assert post(system, name, "ari", ARI)["accepted"] == 0
    post(system, name, "queue-log", "\n".join(samples.queue_log_lines()).encode())
    system.settle()
    assert queues(system, name) == truth
    assert agents(system, name) == true_agents()


def test_what_ended_in_a_gap_is_uncertain_until_the_queue_log_tells(system: System, name: str, tmp_path: Path) -> None:
    post(system, name, "ami", AMI_GAP)
    system.settle()
    lost = {call for call, (state, _) in doubts(system, name).items() if state == "lost"}
    assert len(lost) == 3

    log, spool = tmp_path / "queue_log", tmp_path / "spool"
    log.write_bytes(LOG_RUN2)
    address = "http://{}:{}".format(*system.address)
    command = ["bridge", "queue-log-tail", str(log), "--source", name, "--spool", str(spool), "--once"]
    for _ in range(2):  # the second time there is nothing to do
        system.answerline(*command, ANSWERLINE_GATEWAY=address, ANSWERLINE_KEY=system.key or "")
    system.settle()
    assert queues(system, name) == true_queues("run2")
    assert agents(system, name) == true_agents("run2")
    assert not lost & doubts(system, name).keys()
