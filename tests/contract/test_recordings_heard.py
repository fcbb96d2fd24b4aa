"""Recordings from end to end: told by a PBX, paused and resumed over the line that its bridge listens on, heard in parts, and written down."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from services.gateway.bridges.kernel import Client as BridgeClient
from services.gateway.bridges.kernel import Pauses
from services.gateway.bridges.silence import Command, obey
from tests.system import System, eventually

SPOOL = "/var/spool/asterisk/monitor"
WAIT_SECONDS = 10


def talk(system: System, name: str, end: str = "") -> None:
    """A call in the source of that name that is recorded; `end`: it is over."""
    lines = f"1795296258|{name}|{name}|NONE|ENTERQUEUE||1|1\n1795296261|{name}|{name}|Ann|CONNECT|3|m|1\n{end}"
    system.post("/v1/telephony/asterisk/queue-log", lines, source=name).ok()
    told = {
        "Event": "VarSet",
        "Variable": "MIXMONITOR_FILENAME",
        "Value": f"{SPOOL}/a.wav",
        "Uniqueid": name,
        "Linkedid": name,
        "Timestamp": "1795296261.5",
    }
    system.post("/v1/telephony/asterisk/ami", told, source=name).ok()
    system.settle()


def test_a_recording_is_heard_by_who_may_and_each_hearing_is_known(system: System, name: str, tmp_path: Path) -> None:
    sound = bytes(range(256)) * 2000
    (tmp_path / "a.wav").write_bytes(sound)
    system.put(f"/v1/sources/{name}", {"kind": "asterisk", "recordings_root": str(tmp_path), "recordings_prefix": SPOOL}).ok()
    talk(system, name, f"1795296266|{name}|{name}|Ann|COMPLETECALLER|3|5|1\n")
    (one,) = eventually(lambda: system.get(f"/v1/contacts/{name}:{name}/recordings").ok()["items"])
    assert (one["state"], one["seconds"], one["format"]) == ("available", 4.5, "wav")
    evaluator = system.client("evaluator")
    answer = evaluator.get(one["media"])
    assert (answer.status, answer.headers["Content-Type"], answer.body == sound) == (200, "audio/wav", True)
    part = evaluator.request("GET", one["media"], headers={"Range": "bytes=512000-"})
    assert part.status == 416
    part = evaluator.request("GET", one["media"], headers={"Range": "bytes=-256"})
    assert (part.status, part.headers["Content-Range"], part.body) == (206, "bytes 511744-511999/512000", sound[-256:])
    head = evaluator.request("HEAD", one["media"])
    assert (head.status, head.headers["Content-Length"], head.body) == (200, "512000", b"")
    system.client("agent").get(one["media"]).problem(403)
    accesses = system.get(f"/v1/recordings/{one['id']}/accesses").ok()["items"]
    assert [(access["by"], access["first"], access["last"]) for access in accesses] == [("test", 511744, 511999), ("test", 0, 511999)]
    system.put(f"/v1/contacts/{name}:{name}/recording/consent", {"consent": "refused"}).ok()
    eventually(lambda: evaluator.get(one["media"]).status == 403)


def test_a_pause_reaches_the_bridge_and_its_answer_the_agent(system: System, name: str) -> None:
    talk(system, name)
    bridge = BridgeClient(f"http://127.0.0.1:{system.ports['http']}", system.client("telephony").key or "")
    agent, stopped, done = system.client("agent"), threading.Event(), []

    def execute(command: Command) -> str:
        done.append((command["action"], command["calls"], command["recordings"]))
        return ""

    def press(what: str, wait: int) -> dict[str, Any]:
        return agent.request("POST", f"/v1/contacts/{name}:{name}/recording/{what}", query={"wait": wait}).ok()  # type: ignore[no-any-return]

    assert press("pause", 0)["confirmed"] is False, "nobody has said that it is so"
    thread = threading.Thread(target=obey, args=(bridge, name, execute, stopped, Pauses()))
    thread.start()
    try:
        assert press("pause", WAIT_SECONDS)["confirmed"] is True
        assert press("resume", WAIT_SECONDS)["confirmed"] is True
    finally:
        stopped.set()
        press("pause", 0)  # whoever waits for a command comes back with it
        thread.join(30)
    where = [{"call": name, "location": f"{SPOOL}/a.wav"}]
    assert done[:2] == [("pause", [name], where), ("resume", [name], where)]
    told = agent.get(f"/v1/contacts/{name}:{name}/recordings").ok()
    assert (told["paused"], told["pauses"][0]["confirmed"], len(told["pauses"])) == (True, True, 2)


def test_a_source_that_is_gone_takes_its_calls_with_it(system: System, name: str) -> None:
    system.put(f"/v1/sources/{name}", {"kind": "asterisk", "mode": "observed"}).ok()
    talk(system, name)
    system.delete(f"/v1/sources/{name}").ok()
    leg = eventually(lambda: [leg for leg in system.get(f"/v1/contacts/{name}:{name}").ok()["legs"] if leg["outcome"] == "lost"])[0]
    assert leg["uncertain"]
    system.get(f"/v1/sources/{name}").problem(404)
    system.delete(f"/v1/sources/{name}").problem(404)
    line = f"1795296258|2.2|{name}|NONE|ENTERQUEUE||1|1\n"
    eventually(lambda: system.post("/v1/telephony/asterisk/queue-log", line, source=name).problem(404))
    system.put(f"/v1/sources/{name}", {"kind": "asterisk"}).ok()
    assert eventually(lambda: system.post("/v1/telephony/asterisk/queue-log", line, source=name).ok())["accepted"] == 1


@pytest.mark.parametrize("path", ["../../../../etc/passwd", "/etc/passwd"])
def test_no_other_file_of_the_machine_is_given(system: System, name: str, tmp_path: Path, path: str) -> None:
    system.put(f"/v1/sources/{name}", {"kind": "asterisk", "recordings_root": str(tmp_path)}).ok()
    told = {"event": "call.arrived", "queue": name, "callid": name, "at": 1795296258, "recording": path}
    system.post("/v1/telephony/asterisk/dialplan", told, source=name).ok()
    system.post("/v1/telephony/asterisk/dialplan", {**told, "event": "call.hangup", "at": 1795296260}, source=name).ok()
    (one,) = eventually(lambda: [one for one in system.get(f"/v1/contacts/{name}:{name}/recordings").ok()["items"] if one["ended_at"]])
    system.get(one["media"]).problem(404)
