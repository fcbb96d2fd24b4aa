"""Keys, sign-in, and the record of administrative acts."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from services.gateway.accounts import LONGEST, SHORTEST
from services.gateway.keys import ROLES
from services.gateway.schemas import NAME, TEXT, Page
from services.gateway.schemas.answers import page_of, told
from shared.contracts.fields import Data, Input, Time

MOST_PLACES = validate.Length(max=200)


# ---- keys


class NewKey(Input):
    name = fields.String(required=True, validate=NAME)
    roles = fields.List(fields.String(), required=True, **told(f"of {', '.join(ROLES)}"))
    expires_at = Time(allow_none=True, load_default=None, **told("null: never"))
    days = fields.Float(
        allow_none=True,
        load_default=None,
        validate=validate.Range(min=0, min_inclusive=False, max=36500),
        **told("until then, instead of a moment"),
    )
    sites = fields.List(fields.String(validate=NAME), load_default=list, validate=MOST_PLACES, **told("it holds for these; empty: all"))
    teams = fields.List(fields.String(validate=NAME), load_default=list, validate=MOST_PLACES, **told("it holds for these; empty: all"))

    @validates_schema(skip_on_field_errors=True)
    def _one_end(self, data: dict[str, Any], **_: Any) -> None:
        if data["expires_at"] is not None and data["days"] is not None:
            raise ValidationError("Say one of expires_at and days.", "days")


class Key(Data):
    id = fields.String()
    name = fields.String()
    roles = fields.List(fields.String())
    sites = fields.List(fields.String())
    teams = fields.List(fields.String())
    created_at = Time()
    expires_at = Time(allow_none=True)
    revoked_at = Time(allow_none=True)


class MadeKey(Key):
    key = fields.String(**told("shown this once"))


Keys = page_of(Key)


# ---- sign-in


class SignIn(Input):
    login = fields.String(required=True, validate=NAME, **told("your id or your e-mail address"))
    password = fields.String(
        required=True, validate=validate.Length(min=1, max=1000), metadata={"description": "as it was set", "writeOnly": True}
    )


class SignedIn(Data):
    token = fields.String(**told("send it as `Authorization: Bearer TOKEN`; shown this once"))
    ends_at = Time(**told("at the latest; after an hour without a request too"))
    person = fields.String()
    name = fields.String()
    roles = fields.List(fields.String())


class SignOut(Input):
    everywhere = fields.Boolean(load_default=False, **told("end all your other sign-ins too"))


class ViaProvider(Input):
    then = fields.String(load_default="", validate=validate.Length(max=500), **told("a path of ours to come back to, with `#token=…`"))


class FromProvider(Input):
    """What identity providers are known to add to the address."""

    code = fields.String(validate=validate.Length(max=4000))
    state = fields.String(validate=TEXT)
    iss = fields.String(validate=validate.Length(max=1000))
    error = fields.String(validate=TEXT)
    error_description = fields.String(validate=validate.Length(max=4000))
    error_uri = fields.String(validate=validate.Length(max=4000))
    session_state = fields.String(validate=validate.Length(max=1000))
    scope = fields.String(validate=validate.Length(max=1000))
    authuser = fields.String(validate=TEXT)
    prompt = fields.String(validate=TEXT)
    hd = fields.String(validate=TEXT)
    client_info = fields.String(validate=validate.Length(max=4000))


class Redirect(Data):
    """Back to where the sign-in was begun, with `#token=…`"""


class Me(Data):
    id = fields.String(**told("of the key or the person"))
    name = fields.String()
    person = fields.String(**told("your id in the directory, which is your agent id too; empty: a key"))
    roles = fields.List(fields.String())
    sites = fields.List(fields.String(), **told("for which your roles hold; empty: all"))
    teams = fields.List(fields.String(), **told("for which your roles hold; empty: all"))


def _password(**more: Any) -> fields.String:
    described = {"description": f"{SHORTEST} to {LONGEST} characters, without its owner's name", "writeOnly": True}
    return fields.String(required=True, validate=validate.Length(min=1, max=1000), metadata=described, **more)


class Password(Input):
    password = _password()


class NewPassword(Input):
    old = fields.String(required=True, validate=validate.Length(max=1000), metadata={"writeOnly": True})
    password = _password()


# ---- the record


class AuditPage(Page):
    who = fields.String(validate=NAME, **told("id of a key or a person"))
    object = fields.String(validate=NAME, **told("what it was done to"))
    since = Time(data_key="from")
    until = Time(data_key="to")


class Act(Data):
    id = fields.String()
    at = Time()
    who = fields.String(**told("id of a key or a person; empty: nobody was let in"))
    name = fields.String()
    act = fields.String(**told("method and route, or signed in, signed out, locked, address locked"))
    object = fields.String(**told("what it was done to; numbers are left out"))
    status = fields.Integer(allow_none=True, **told("of the answer; null: it began, and broke off"))
    summary = fields.String(**told("which fields were sent, and of some their values"))


Acts = page_of(Act)
