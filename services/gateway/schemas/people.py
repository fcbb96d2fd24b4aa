"""The directory of people, sites and teams."""

from __future__ import annotations

from marshmallow import fields, validate

from services.gateway.keys import ROLES
from services.gateway.schemas import NAME, TEXT, Page, zone
from services.gateway.schemas.answers import page_of, told
from shared.contracts.fields import Data, Input


def _places(what: str) -> fields.List:
    described = told(f"{what} for which the roles hold; null: their own, empty: all")
    return fields.List(fields.String(validate=NAME), allow_none=True, load_default=None, validate=validate.Length(max=200), **described)


class Person(Input):
    name = fields.String(required=True, validate=NAME)
    email = fields.String(
        allow_none=True, load_default=None, validate=validate.Length(max=254), **told("for signing in; it goes nowhere else")
    )
    site = fields.String(load_default="", validate=TEXT)
    team = fields.String(load_default="", validate=TEXT)
    roles = fields.List(fields.String(), required=True, **told(f"of {', '.join(ROLES)}"))
    language = fields.String(
        load_default="",
        validate=validate.Regexp(r"([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3})?\Z", error="a language is a tag such as en or zh-Hant"),
    )
    sites = _places("sites")
    teams = _places("teams")
    active = fields.Boolean(load_default=True, **told("false: they have left, and are signed out"))


class KnownPerson(Person):
    class Meta(Data.Meta):
        pass

    id = fields.String(**told("their agent id too"))


class PeoplePage(Page):
    site = fields.String(validate=TEXT)
    team = fields.String(validate=TEXT)
    active = fields.Boolean()


People = page_of(KnownPerson)


class Site(Input):
    name = fields.String(required=True, validate=NAME)
    zone = fields.String(load_default="", validate=zone, **told("as in Asia/Hong_Kong; none: the centre's"))
    active = fields.Boolean(load_default=True)


class KnownSite(Site):
    class Meta(Data.Meta):
        pass

    id = fields.String()


Sites = page_of(KnownSite)


class Team(Input):
    name = fields.String(required=True, validate=NAME)
    site = fields.String(load_default="", validate=TEXT, **told("none: of several sites"))
    active = fields.Boolean(load_default=True)


class KnownTeam(Team):
    class Meta(Data.Meta):
        pass

    id = fields.String()


Teams = page_of(KnownTeam)
