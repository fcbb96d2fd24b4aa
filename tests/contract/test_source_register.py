"""The register of sources, and what it changes for the contacts of a source."""

from __future__ import annotations

import hashlib
from urllib.parse import parse_qsl

from services.gateway.domain.twilio import signature
from tests.contract.telephony import queue_report
from tests.system import System
from tests.unit.gateway.twilio_samples import DATA, posts

TOKEN = "0123456789abcdef0123456789abcdef"


def test_what_a_source_distributes_by_itself_is_watched_in_a_routed_queue_too(system: System, name: str) -> None:
    system.put(f"/v1/queues/{name}", {"mode": "routed"}).ok()
    system.put(f"/v1/sources/{name}-acd", {"mode": "observed"}).ok()
    for source, observed in ((name, False), (f"{name}-acd", True)):
        contact = system.post("/v1/contacts", {"queue": name, "source": source}).ok()["contact"]
        system.settle()
        assert system.get(f"/v1/contacts/{contact}").ok()["observed"] is observed, source


def test_twilio_needs_no_key_but_its_signature(system: System, name: str) -> None:
    """Callbacks and stream together, from end to end."""
    system.put(f"/v1/sources/{name}", {"kind": "twilio", "twilio_auth_token": TOKEN}).ok()
    nobody, host = system.client(), "calls.example.com"
    proxied = {"X-Forwarded-Host": host, "X-Forwarded-Proto": "https"}
    for file in ("taskrouter_answered.form", "taskrouter_abandoned.form"):
        for body in posts(file):
            path = f"/v1/telephony/twilio/taskrouter?source={name}"
            given = signature(TOKEN, f"https://{host}{path}", parse_qsl(body, keep_blank_values=True))
            headers = {**proxied, "X-Twilio-Signature": given, "Content-Type": "application/x-www-form-urlencoded"}
            assert nobody.request("POST", path, body.encode(), headers=headers).status == 204
    stream = (DATA / "event_stream.json").read_bytes()
    path = f"/v1/telephony/twilio/events?source={name}&bodySHA256={hashlib.sha256(stream).hexdigest()}"
    headers = {**proxied, "X-Twilio-Signature": signature(TOKEN, f"https://{host}{path}"), "Content-Type": "application/json"}
    told = nobody.request("POST", path, stream, headers=headers).ok()
    assert (told["accepted"], told["duplicate"], told["rejected"]) == (2, 15, []), "only the ends of the calls are new"
    assert nobody.request("POST", path, stream + b" ", headers=headers).status == 401
    system.settle()
    row = queue_report(system, name)["sales"]
    assert (row["offered"], row["answered"], row["abandoned"], row["talk_seconds"]) == (2, 1, 1, 60)
