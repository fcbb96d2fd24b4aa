"""Every curl of docs/cookbook.md and docs/quality.md, in the order in which it stands there, against the real system; and the configurations as
far as can be."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

import pytest

from services.gateway.service import GatewayService
from shared.http.endpoint import endpoints_of
from tests.system import System

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "cookbook.md").read_text()
QUALITY = (ROOT / "docs" / "quality.md").read_text()
OWN = ("support", "chan", "pbx1", "fs1", "acme-417", "eva", "berlin", "office", "wallboard", "wong", "order-4711", "1001", "telephone-card")
"""Names of the cookbook, which get an ending of their own here: other tests use the same system."""
CUT_OFF = 28
"""curl's code for --max-time"""


class Recipe(NamedTuple):
    command: str
    status: int
    keep: dict[str, str]


def recipes(text: str = TEXT) -> Iterator[Recipe]:
    """Commands of the sh blocks, each with the comment that follows it: `# status NAME=path.of.the.answer`."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M):
        before: list[str] = []
        lines = []
        in_one_line = re.sub(r"'[^']*'", lambda quoted: quoted[0].replace("\n", " "), block.replace("\\\n", " "))
        for line in in_one_line.splitlines():
            if line.startswith(("curl ", "#")):
                lines.append("; ".join([*before, line]))
                before.clear()
            else:
                before.append(line)  # a file that is sent
        assert len(lines) % 2 == 0, f"each command is followed by what it answers: {block}"
        for command, told in zip(lines[::2], lines[1::2], strict=True):
            assert "curl " in command, command
            marked, status, *kept = told.split()
            assert marked == "#", told
            yield Recipe(command, int(status), dict(one.split("=") for one in kept))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.S | re.M)


def carry_out(several: Iterable[Recipe], system: System, name: str, folder: Path, patience: float = 0.0) -> dict[str, str]:
    """What the answers told, by name. `patience`: for so many seconds a command is given again until it answers what it says."""
    values = {"URL": f"http://127.0.0.1:{system.ports['http']}", "KEY": system.key or ""}
    ending = re.sub(r"\W", "", name)[-20:]
    for recipe in several:
        command = re.sub(rf"\b({'|'.join(OWN)})\b", rf"\1-{ending}", recipe.command).replace("eva-" + ending + "@", f"eva.{ending}@")
        command = re.sub(r"\b(1795296258)\b", rf"{abs(hash(name)) % 10**9}", command)
        command = re.sub(r"source=twilio\b|\btwilio(?=:CA)|sources/twilio\b", rf"\g<0>-{ending}", command).replace(
            '"source": "twilio"', f'"source": "twilio-{ending}"'
        )
        answer = folder / "answer"
        asked = ["bash", "-c", f"{command} --silent --show-error --output {answer} --write-out '%{{http_code}}'"]

        def ask(asked: list[str] = asked, answer: Path = answer) -> subprocess.CompletedProcess[str]:
            answer.unlink(missing_ok=True)
            return subprocess.run(asked, env=os.environ | values, cwd=folder, capture_output=True, text=True, timeout=60)

        done, until = ask(), monotonic() + patience
        while done.stdout != str(recipe.status) and monotonic() < until:
            sleep(0.1)
            done = ask()
        body = answer.read_text() if answer.exists() else ""
        assert done.returncode in (0, CUT_OFF if "--max-time" in command else 0), (command, done.stderr)
        assert done.stdout == str(recipe.status), (command, done.stdout, body)
        for variable, path in recipe.keep.items():
            found = json.loads(body)
            for part in path.split("."):
                found = found[int(part) if part.isdigit() else part]
            assert found, (command, body)
            values[variable] = str(found)
    return values


def test_a_plan_closes_by_evidence_as_the_curls_of_quality_say(system: System, name: str, tmp_path: Path) -> None:
    values = carry_out(recipes(QUALITY), system, name, tmp_path, patience=20)
    assert values["STATE"] == "closed"


def test_every_curl_of_the_cookbook_answers_what_it_says(system: System, name: str, tmp_path: Path) -> None:
    values = carry_out(recipes(), system, name, tmp_path)
    ending = re.sub(r"\W", "", name)[-20:]
    assert values["ADDRESS"] == f"PJSIP/1001-{ending}", "the first call is routed"


def test_the_cookbook_has_something_from_every_area() -> None:
    used = {re.sub(r"\?.*", "", path).strip("/").split("/")[1] for path in re.findall(r'"\$URL(/v1/[^"]+)"', TEXT)}
    areas = {"queues", "agents", "policies", "contacts", "stream", "webhooks", "keys", "people", "recordings", "imports"}
    recordings = {"recordings"} if re.search(r"/recordings?[/\"]", TEXT) else set()
    assert areas <= used | recordings, areas - used - recordings


@pytest.mark.parametrize("language", ["ini", "xml", "text"])
def test_what_a_telephone_system_needs_is_less_than_fifteen_lines(language: str) -> None:
    assert blocks(language)
    assert all(len(block.splitlines()) < 15 for block in blocks(language))


@pytest.mark.parametrize(("language", "folder", "door"), [("xml", "freeswitch", "httapi"), ("text", "twilio", "route")])
def test_a_telephone_system_that_asks_for_each_step_asks_a_door_there_is(language: str, folder: str, door: str) -> None:
    (given,) = blocks(language)
    (query,) = re.findall(rf'/{door}\?([^"]*)"', given)
    told = {one.partition("=")[0] for one in query.replace("&amp;", "&").split("&")}
    (spec,) = (spec for spec, _ in endpoints_of(GatewayService) if spec.path == f"/v1/telephony/{folder}/{door}")
    assert spec.query
    known = spec.query().fields
    assert {name for name, field in known.items() if field.required} <= told <= set(known)


def test_the_dialplan_gives_what_its_include_reads() -> None:
    (given,) = blocks("ini")
    include = (ROOT / "deploy" / "asterisk" / "extensions-answerline.conf").read_text()
    header = include.partition("[incoming]")[0]
    wanted = set(re.findall(r"^;\s+(ANSWERLINE\w*)=", header, re.M))
    assert wanted == set(re.findall(r"^(ANSWERLINE\w*)=", given, re.M))
    assert "Gosub(answerline,route,1(support))" in given
    assert re.search(r"^\[answerline\]$", include, re.M) and re.search(r"^exten => route,1,", include, re.M)
