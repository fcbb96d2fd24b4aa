from __future__ import annotations

import itertools

from services.gateway.domain.agents import agent_reports
from services.gateway.domain.ami import interpret
from services.gateway.domain.observation import Observation
from services.gateway.domain.queue_log import parse

LINES = [
    "100|NONE|NONE|Ann|PAUSEALL|lunch",
    "100|NONE|vip|Ann|PAUSE|lunch",
    "130|NONE|vip|Ann|UNPAUSE|",
    "110|MANAGER|sales|Local/2@a/n|ADDMEMBER|",
    "120|NONE|sales|Local/2@a/n|PENALTY|2",
]
BOB = {"Queue": "sales", "MemberName": "Bob", "Interface": "Local/2@a/n", "Status": "6", "Paused": "0", "Penalty": "2"}
TOLD = [o for line in LINES if isinstance(o := parse(line), Observation)]


def test_the_latest_word_counts_in_each_queue_and_in_all() -> None:
    reports = agent_reports(TOLD)
    everywhere, vip = reports["Ann", None], reports["Ann", "vip"]
    assert (everywhere.paused, everywhere.reason, everywhere.at) == (True, "lunch", 100)
    assert (vip.paused, vip.reason, vip.at) == (False, None, 130)


def test_a_device_gets_its_agents_name_from_whoever_knows_both() -> None:
    assert agent_reports(TOLD)["Local/2@a/n", "sales"].member is True
    status = interpret({"Event": "QueueMemberStatus", **BOB}, received=125.0)
    assert isinstance(status, Observation)
    bob = agent_reports([*TOLD, status])["Bob", "sales"]
    assert (bob.interface, bob.member, bob.device, bob.paused, bob.penalty) == ("Local/2@a/n", True, "ringing", False, 2)


def test_a_member_who_left_is_none() -> None:
    removed = parse("140|MANAGER|sales|Local/2@a/n|REMOVEMEMBER|")
    assert isinstance(removed, Observation)
    assert agent_reports([removed, *TOLD])["Local/2@a/n", "sales"].member is False


def test_the_order_of_telling_does_not_matter() -> None:
    expected = agent_reports(TOLD)
    assert all(agent_reports(order) == expected for order in itertools.permutations(TOLD))
