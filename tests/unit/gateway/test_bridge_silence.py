"""Recordings paused where they are made: what each telephony system is told, by peers that speak its protocol, and what the gateway hears of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from services.gateway.bridges import asterisk_ami, asterisk_ari, freeswitch
from services.gateway.bridges.asterisk_ami import Denied
from services.gateway.bridges.asterisk_ari import Rest
from services.gateway.bridges.freeswitch import Broken
from services.gateway.bridges.kernel import Answer, Pauses
from services.gateway.bridges.silence import DOOR, Command, obey
from tests.unit.gateway.asterisk_peers import Manager, RestInterface, Talk
from tests.unit.gateway.test_bridge_freeswitch import FreeSwitch, Turn

CALL, PATH = "1795296258.5", "/var/spool/asterisk/monitor/a.wav"


def command(
    action: str = "pause", recordings: Sequence[tuple[str, str]] = ((CALL, PATH),), calls: Sequence[str] = (CALL, "9.9")
) -> Command:
    told = [{"call": call, "location": location} for call, location in recordings]
    return {"id": "p1", "action": action, "calls": list(calls), "recordings": told}


# ---- what each system is told


def asterisk(one: Command, *channels: str, secret: str = "s3cret") -> tuple[str, list[dict[str, str]]]:
    with Manager([Talk(1795296262.0, channels)], secret) as peer:
        told = asterisk_ami.silence(asterisk_ami.Manager("127.0.0.1", peer.port, "answerline", "s3cret"), one)
        return told, [asked for asked in peer.requests if asked["Action"] == "MixMonitorMute"]


def test_asterisk_mutes_both_directions_of_the_channel_that_is_recorded() -> None:
    trouble, asked = asterisk(command(), CALL)
    assert trouble == ""
    assert [(one["Channel"], one["Direction"], one["State"]) for one in asked] == [(CALL, "both", "1")]
    assert [one["State"] for one in asterisk(command("resume"), CALL)[1]] == ["0"]


def test_asterisk_is_not_believed_when_one_recording_goes_on() -> None:
    both = command(recordings=[(CALL, PATH), ("7.7", "b.wav")])
    assert asterisk(both, CALL)[0] == "No such channel"
    assert asterisk(both, CALL, "7.7")[0] == ""


def test_where_nobody_told_of_a_recording_every_channel_is_muted_and_nothing_confirmed() -> None:
    trouble, asked = asterisk(command(recordings=()), CALL)
    assert ("MIXMONITOR_FILENAME" in trouble, [one["Channel"] for one in asked]) == (True, [CALL, "9.9"])


def test_of_two_recordings_on_a_channel_asterisk_may_silence_one_alone() -> None:
    trouble, asked = asterisk(command(recordings=[(CALL, PATH), (CALL, "b.wav")]), CALL)
    assert ("several recordings" in trouble, len(asked)) == (True, 1)


def test_a_manager_that_lets_nobody_in_is_trouble() -> None:
    with pytest.raises(Denied):
        asterisk(command(), CALL, secret="another")


def rest(one: Command, *names: str) -> tuple[str, list[str]]:
    with RestInterface([Talk(1795296262.0, recordings=names)]) as peer:
        told = asterisk_ari.silence(Rest(f"http://127.0.0.1:{peer.port}", "answerline", "s3cret"), one)
        return told, [f"{asked['method']} {asked['path']}" for asked in peer.requests]


def test_ari_pauses_a_recording_by_its_name() -> None:
    mine = [(CALL, "desk/7.wav")]
    assert rest(command(recordings=mine), "desk%2F7") == ("", ["POST /ari/recordings/live/desk%2F7/pause"])
    assert rest(command("resume", recordings=mine), "desk%2F7") == ("", ["DELETE /ari/recordings/live/desk%2F7/pause"])
    assert rest(command(recordings=mine))[0] == "ARI answered 404"


def test_ari_says_what_it_cannot_pause() -> None:
    for others in ([(CALL, PATH)], [(CALL, "desk/7.wav"), (CALL, PATH)], []):
        trouble, asked = rest(command(recordings=others), "desk%2F7")
        assert ("asterisk-ami" in trouble, asked) == (True, [])


def switch(one: Command, answers: Callable[[str], str], password: str = "ClueCon") -> tuple[str, list[str]]:
    class Switch(FreeSwitch):
        @staticmethod
        def _api(line: str, turn: Turn) -> str:
            return answers(line)

    peer = Switch([Turn(password=password)])
    told = freeswitch.silence(peer.connect, "ClueCon", one)
    return told, peer.asked


def test_freeswitch_masks_each_file() -> None:
    mine = command(recordings=[("u1", "/rec/a.wav"), ("u2", "/rec/b.wav")])
    trouble, asked = switch(mine, lambda _: "+OK Success\n")
    assert (trouble, asked[1:]) == ("", ["api uuid_record u1 mask /rec/a.wav", "api uuid_record u2 mask /rec/b.wav"])
    _, asked = switch({**mine, "action": "resume"}, lambda _: "+OK Success\n")
    assert asked[1:] == ["api uuid_record u1 unmask /rec/a.wav", "api uuid_record u2 unmask /rec/b.wav"]
    assert switch(mine, lambda line: "-ERR Cannot locate session!\n" if "u2" in line else "+OK\n")[0] == "-ERR Cannot locate session!"


def test_freeswitch_needs_a_file() -> None:
    assert "RECORD_START" in freeswitch.silence(lambda: pytest.fail("it asked"), "ClueCon", command(recordings=()))
    with pytest.raises(Broken):
        switch(command(), lambda _: "+OK", password="another")


# ---- the loop


class Gateway:
    """Gives each round's commands and keeps what it is told of them; after the last round the bridge is told to stop."""

    def __init__(self, *rounds: Any) -> None:
        self.rounds, self.told = list(rounds), []
        self.stopped = threading.Event()

    def get(self, path: str) -> Answer:
        assert path == f"{DOOR}?source=pbx&wait=20"
        now = self.rounds.pop(0)
        if not self.rounds:
            self.stopped.set()
        return now if isinstance(now, Answer) else Answer(200, {"commands": now})

    def post(self, path: str, body: bytes, content_type: str) -> Answer:
        assert (path, content_type) == (f"{DOOR}/p1", "application/json")
        self.told.append(json.loads(body))
        return Answer(204, {})


def report(done: bool, trouble: str = "", action: str = "pause") -> dict[str, Any]:
    return {"action": action, "done": done, "trouble": trouble}


def test_what_is_done_is_reported() -> None:
    gateway, done = Gateway([command()], [], [command("resume")]), []

    def execute(one: Command) -> str:
        done.append(one["action"])
        return ""

    obey(gateway, "pbx", execute, gateway.stopped, Pauses(0.001, 0.002))
    assert done == ["pause", "resume"]
    assert gateway.told == [report(True), report(True, action="resume")]


def test_what_fails_is_reported_and_tried_again_as_the_gateway_asks() -> None:
    gateway = Gateway(Answer(0, {"detail": "no answer"}), [command()], [command()], [command()])
    results = iter(["no such channel", OSError("cut"), ""])

    def execute(_one: Command) -> str:
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    obey(gateway, "pbx", execute, gateway.stopped, Pauses(0.001, 0.002))
    assert gateway.told == [report(False, "no such channel"), report(False, "OSError: cut"), report(True)]
