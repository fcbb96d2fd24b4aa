"""The register of sources: what the doors and the correlation ask of it, and that secrets stay secret."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from zoneinfo import ZoneInfo

import pytest

from services.gateway import store
from services.gateway.sealing import Sealer
from services.gateway.sources import KNOWN_FOR_SECONDS, Register
from shared.errors import Unavailable
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.gateway.door import SEALER, Doors

TOKEN = "0123456789abcdef0123456789abcdef"
BLANK = {
    "kind": "other", "zone": "", "country": "", "mode": "routed", "available_activities": [], "secrets": [], "twilio_account": "",
    "twilio_api": "https://api.twilio.com", "recordings_root": "", "recordings_prefix": "", "recordings_days": None,
    "recordings_need_consent": False,
}  # fmt: skip


@pytest.fixture
def doors(make_units: MakeUnits, at: SetClock) -> Doors:
    at.seconds = 1795296300.0
    return Doors(make_units(store.metadata))


def test_a_source_is_written_read_and_listed(doors: Doors) -> None:
    told = {"kind": "asterisk", "zone": "Asia/Hong_Kong", "country": "hk", "mode": "observed"}
    whole = {**BLANK, **told, "name": "pbx a", "country": "HK"}
    answer = doors("PUT", "/v1/sources/pbx%20a", told, key="admin")
    assert (answer.status, answer.json) == (200, whole)
    assert doors("GET", "/v1/sources/pbx%20a", key="supervisor").json == whole
    doors("PUT", "/v1/sources/b", {}, key="admin")
    assert doors("GET", "/v1/sources?limit=1", key="supervisor").json == {"items": [{**BLANK, "name": "b"}], "next": "b"}
    assert doors("GET", "/v1/sources?cursor=b", key="supervisor").json == {"items": [whole], "next": None}
    assert doors("GET", "/v1/sources/c", key="supervisor").status == 404


def test_only_administrators_write(doors: Doors) -> None:
    assert [doors("PUT", "/v1/sources/a", {}, key=key).status for key in ("", "supervisor", "telephony")] == [401, 403, 403]
    assert doors("GET", "/v1/sources", key="telephony").status == 403


@pytest.mark.parametrize(
    ("name", "told", "field"),
    [
        ("a", {"zone": "Hong Kong"}, "zone"),
        ("a", {"country": "HKG"}, "country"),
        ("a", {"mode": "both"}, "mode"),
        ("a", {"kind": "avaya"}, "kind"),
        ("a", {"twilio_auth_token": ""}, "twilio_auth_token"),
        ("a", {"twilio_auth_token": "a b"}, "twilio_auth_token"),
        ("a", {"secret": "x"}, "secret"),
        ("a:b", {}, ""),
        ("x" * 201, {}, ""),
    ],
)
def test_what_cannot_be_registered_is_told(doors: Doors, name: str, told: dict[str, str], field: str) -> None:
    answer = doors("PUT", f"/v1/sources/{name}", told, key="admin")
    assert answer.status == 422
    assert field in answer.json.get("errors", {"": []})
    assert doors("GET", "/v1/sources", key="admin").json["items"] == []


def test_a_secret_is_written_and_never_shown(doors: Doors) -> None:
    with redirect_stdout(io.StringIO()) as printed:
        answers = [
            doors("PUT", "/v1/sources/cloud", {"kind": "twilio", "twilio_auth_token": TOKEN}, key="admin"),
            doors("PUT", "/v1/sources/cloud", {"kind": "twilio", "zone": "UTC"}, key="admin"),
            doors("GET", "/v1/sources/cloud", key="admin"),
            doors("GET", "/v1/sources", key="admin"),
        ]
    assert TOKEN not in str(answers) + printed.getvalue() + repr(Register(doors.units, SEALER).get("cloud"))
    assert all(answer.json["secrets"] == ["twilio_auth_token"] for answer in answers[:3]), "one that is not sent stays"
    assert Register(doors.units, SEALER).secret("cloud", "twilio_auth_token") == TOKEN
    assert TOKEN not in str(doors.kept(store.source_secret)), "sealed at rest"
    assert doors("PUT", "/v1/sources/cloud", {"twilio_auth_token": None}, key="admin").json["secrets"] == []
    assert Register(doors.units, SEALER).secret("cloud", "twilio_auth_token") is None


def test_what_was_looked_up_is_known_for_some_seconds(doors: Doors, at: SetClock) -> None:
    register = Register(doors.units, SEALER)
    assert (register.get("pbx").zone, register.get("pbx").mode) == (None, "routed")
    doors("PUT", "/v1/sources/pbx", {"zone": "Asia/Hong_Kong"}, key="admin")
    assert doors.service.core.sources.get("pbx").zone == ZoneInfo("Asia/Hong_Kong"), "here at once"
    assert register.get("pbx").zone is None
    at.forward(KNOWN_FOR_SECONDS + 0.1)
    assert register.get("pbx").zone == ZoneInfo("Asia/Hong_Kong")


# ---- what it is for

ARRIVED = {"event": "call.arrived", "callid": "1.1", "queue": "sales", "at": "2026-11-22T05:24:10"}
DIALPLAN = "/v1/telephony/asterisk/dialplan?source=pbx"


def test_times_without_a_zone_are_read_in_that_of_their_source(doors: Doors) -> None:
    assert "no zone" in doors("POST", DIALPLAN, ARRIVED, key="telephony").json["detail"]
    doors("PUT", "/v1/sources/pbx", {"zone": "Asia/Hong_Kong"}, key="admin")
    assert doors("POST", DIALPLAN, ARRIVED, key="telephony").status == 200
    assert [leg["arrived_at"] for leg in doors.legs()] == ["2026-11-21T21:24:10.000Z"]


def test_numbers_without_a_country_code_are_of_their_sources_country(doors: Doors) -> None:
    doors("PUT", "/v1/customers/c1", {"numbers": ["+49 30 23125001"]}, key="supervisor")
    doors("PUT", "/v1/sources/berlin", {"country": "DE"}, key="admin")
    for source, call in (("berlin", "1.1"), ("pbx", "1.2")):
        told = {**ARRIVED, "callid": call, "caller": "030 23125001", "at": "1795296250"}
        doors("POST", DIALPLAN.replace("pbx", source), told, key="telephony")
    assert {event["data"]["source"]: event["data"].get("customer") for event in doors.announced()} == {"berlin": "c1", "pbx": None}


def test_a_source_that_distributes_by_itself_says_so_in_each_event(doors: Doors) -> None:
    doors("PUT", "/v1/sources/pbx", {"mode": "observed", "zone": "UTC"}, key="admin")
    doors("POST", DIALPLAN, ARRIVED, key="telephony")
    doors("POST", DIALPLAN.replace("pbx", "other"), {**ARRIVED, "at": "1795296250"}, key="telephony")
    assert {event["data"]["source"]: event["data"].get("observed") for event in doors.announced()} == {"pbx": True, "other": None}


# ---- off the register


def test_a_source_that_is_deleted_takes_its_secrets_and_closes_its_calls(doors: Doors) -> None:
    doors("PUT", "/v1/sources/pbx", {"kind": "twilio", "mode": "observed", "twilio_auth_token": TOKEN}, key="admin")
    line = "1795296258|1.5|sales|NONE|ENTERQUEUE||+85267786396|1"
    doors("POST", "/v1/telephony/asterisk/queue-log?source=pbx", line, key="telephony", kind="text/plain")
    assert doors.stories() == [("sales", "waiting", None, {})]
    assert [doors("DELETE", "/v1/sources/pbx", key=key).status for key in ("", "supervisor", "admin", "admin")] == [401, 403, 204, 404]
    last = doors.announced()[-1]
    assert (last["data"]["leg"]["outcome"], last["data"]["observed"]) == ("lost", True), "its settings hold for what it left behind"
    assert doors.kept(store.source_secret) == []
    assert doors("GET", "/v1/sources/pbx", key="admin").status == 404
    assert doors("GET", "/v1/sources", key="admin").json["items"] == []


def test_what_still_comes_in_its_name_is_refused_until_it_is_registered_again(doors: Doors) -> None:
    doors("PUT", "/v1/sources/pbx", {}, key="admin")
    doors("DELETE", "/v1/sources/pbx", key="admin")
    line = "1795296258|1.5|sales|NONE|ENTERQUEUE||1|1"

    def post() -> int:
        return doors("POST", "/v1/telephony/asterisk/queue-log?source=pbx", line, key="telephony", kind="text/plain").status

    assert post() == 404, "a bridge keeps it and tries again"
    assert doors("POST", "/v1/contacts", {"queue": "sales", "source": "pbx"}, key="telephony").status == 404
    assert doors("PUT", "/v1/sources/pbx", {"zone": "UTC"}, key="admin").json["zone"] == "UTC"
    assert post() == 200
    assert doors("DELETE", "/v1/sources/never", key="admin").status == 404


def test_a_secret_that_no_key_unseals_is_our_trouble_and_nobody_elses(doors: Doors) -> None:
    doors("PUT", "/v1/sources/cloud", {"kind": "twilio", "zone": "UTC", "twilio_auth_token": TOKEN}, key="admin")
    lost = Register(doors.units, Sealer(["another key of thirty-two letters"]))
    assert lost.get("cloud").zone == ZoneInfo("UTC")
    with pytest.raises(Unavailable, match="ANSWERLINE_SECRET_KEY"):
        lost.secret("cloud", "twilio_auth_token")
