"""As much of FreeSWITCH's mod_httapi as our documents use, with the profile of deploy/freeswitch.

As its source has it (1.10): parameters of a document come back in every later post, variables asked for by getVar in the next one only; tags and
applications without a permission end the call; whatever is not 200 and text/xml, and break, leads on in the dialplan; the end of a channel is
one more post, with exiting=true. As switch_ivr_originate has it, `group_confirm_file` runs on the channel of who picks up, with the key `exec`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

from tests.system import System

FOLDER = Path(__file__).parents[2] / "deploy" / "freeswitch"
PROFILE = ElementTree.parse(FOLDER / "httapi.conf.xml").getroot()
APPLICATIONS = {one.attrib["name"] for one in PROFILE.iter("application")}
VARIABLES = {one.attrib["name"] for one in PROFILE.iter("variable")}


class FreeswitchCall:
    def __init__(self, system: System, source: str, queue: str, **query: Any) -> None:
        self.system, self.pbx, self.source = system, system.client("telephony"), source
        self.uuid = f"{source}-uuid"
        told = urlencode({"source": source, "queue": queue, "wait": 0, **query})
        self.url = f"http://127.0.0.1:8000/v1/telephony/freeswitch/httapi?{told}"
        self.params = {"url": self.url, "httapi_profile": "answerline", "method": "POST", "session_id": self.uuid}
        self.params |= {"Caller-Unique-ID": self.uuid, "Caller-Caller-ID-Number": "+493023125001"}
        self.once: dict[str, str] = {}
        self.variables: dict[str, str] = {}
        self.heard: list[str] = []
        self.rings = ""
        self.rest: list[ElementTree.Element] = []
        self.left = ""
        """hangup, or dialplan: what became of the application"""

    @property
    def contact(self) -> str:
        return f"{self.source}:{self.uuid}"

    def go_on(self) -> FreeswitchCall:
        """One post and what it leads to, up to an agent's telephone that rings, or the next post."""
        assert not self.left
        assert not self.rings
        sent, self.once = {**self.params, **self.once}, {}
        answer = self._post(sent)
        if answer.status != 200 or "text/xml" not in answer.headers["Content-Type"]:
            self.left = "dialplan"
            return self
        self._carry_out(list(self._read(answer.body)))
        return self

    def until_it_rings(self) -> str:
        self.params["url"] = self.params["url"].replace("wait=0", "wait=5")
        for _ in range(100):
            if self.rings:
                return self.rings
            self.go_on()
        raise AssertionError(f"nobody was rung: {self.heard}")

    def picked_up(self) -> bool:
        """Runs the confirmation on the agent's channel; whether the two are connected."""
        found = re.fullmatch(r"httapi \{([^{}']*)\}(\S+)", self.variables["group_confirm_file"])
        assert found, self.variables
        params = dict(one.split("=", 1) for one in found[1].split(",")) | {"url": found[2], "Caller-Unique-ID": f"{self.uuid}-agent"}
        (tag,) = ElementTree.fromstring(self._post(params).body).iter("work")
        assert [one.tag for one in tag] in (["break"], ["hangup"])
        assert self._post({**params, "exiting": "true"}).status == 200
        return tag[0].tag == "break"

    def bridged(self, disposition: str) -> FreeswitchCall:
        """The bridge is over; the document goes on."""
        self.rings, self.variables["originate_disposition"] = "", disposition
        self._carry_out(self.rest)
        return self.go_on()

    def hang_up(self) -> None:
        assert self._post({**self.params, **self.once, "exiting": "true"}).status == 200

    def _post(self, sent: dict[str, str]) -> Any:
        path = sent["url"].removeprefix("http://127.0.0.1:8000")
        return self.pbx.post(path, urlencode(sent), headers={"Content-Type": "application/x-www-form-urlencoded"})

    def _read(self, body: bytes) -> ElementTree.Element:
        document = ElementTree.fromstring(body)
        assert (document.tag, document.attrib["type"]) == ("document", "xml/freeswitch-httapi")
        for param in document.iter("params"):
            for one in param:
                assert one.text, "what is empty does not come back"
                self.params[one.tag] = one.text
        work = document.find("work")
        assert work is not None
        assert len(work) > 0
        return work

    def _carry_out(self, tags: list[ElementTree.Element]) -> None:
        for at, tag in enumerate(tags, 1):
            match tag.tag:
                case "playback":
                    self.heard.append(f"play {tag.attrib['file']}")
                case "speak":
                    self.heard.append(f"{tag.attrib['engine']} {tag.attrib['voice']}: {tag.text}")
                case "getVar":
                    assert tag.attrib["name"] in VARIABLES
                    self.once[tag.attrib["name"]] = self.variables[tag.attrib["name"]]
                case "execute":
                    assert tag.attrib["application"] in APPLICATIONS
                    assert "$" not in tag.attrib["data"]
                    if tag.attrib["application"] == "bridge":
                        self.rings, self.rest = tag.attrib["data"], tags[at:]
                        return
                    name, _, value = tag.attrib["data"].partition("=")
                    self.variables[name] = value
                case "break":
                    self.left = "dialplan"
                case "hangup":
                    self.left = "hangup"
                case _:
                    raise AssertionError(tag.tag)
