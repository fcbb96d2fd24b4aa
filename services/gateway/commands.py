"""What the gateway adds to the command line."""

import sys

import click

from services.gateway import audit, chats, keys, sealing, store, webhooks
from services.gateway.accounts import Accounts
from shared import clock, config
from shared.bus.outbox import UnitOfWork
from shared.runtime import context

SEALED = (store.source_secret.c.value, chats.chat_secret.c.value, webhooks.webhook_secret.c.sealed)
"""Every column with sealed secrets."""


@click.group()
def key() -> None:
    """API keys."""


@click.group()
def person() -> None:
    """People in the directory."""


def _units() -> UnitOfWork:
    return context.of_a_centre("gateway", config.load()).units


def _note(units: UnitOfWork, act: str, object: str) -> None:
    with units() as work:
        audit.note(work.connection, "", "command line", act, object, 200)


@person.command()
@click.argument("id")
def password(id: str) -> None:
    """Set the password of the person with this id: asked for twice, or the first line of the input. They are signed out everywhere."""
    terminal = sys.stdin.isatty()
    told = click.prompt("Password", hide_input=True, confirmation_prompt=True) if terminal else sys.stdin.readline().rstrip("\r\n")
    units = _units()
    Accounts(units, lambda work, *arguments: work(*arguments)).set_password(id, told)
    _note(units, "answerline person password", id)
    click.echo("set")


@key.command()
@click.argument("name")
@click.option("--role", "roles", multiple=True, required=True, type=click.Choice(keys.ROLES), help="May be given several times.")
@click.option("--days", type=click.FloatRange(0, 36500, min_open=True), help="It expires then; otherwise never.")
@click.option("--site", "sites", multiple=True, help="It holds for this site alone; may be given several times.")
@click.option("--team", "teams", multiple=True, help="It holds for this team alone; may be given several times.")
def create(name: str, roles: tuple[str, ...], days: float | None, sites: tuple[str, ...], teams: tuple[str, ...]) -> None:
    """Make a key called NAME. It is shown this once."""
    expires_at = None if days is None else clock.now() + days * 86400
    units = _units()
    made = keys.create(units, name, roles, expires_at=expires_at, sites=sites, teams=teams)
    _note(units, "answerline key create", made["id"])
    click.echo(f"id   {made['id']}\nkey  {made['key']}")


@key.command("list")
def list_keys() -> None:
    """Which keys there are: id, name, roles. The keys themselves are not kept."""
    cursor: str | None = ""
    while cursor is not None:
        page = keys.listing(_units(), cursor)
        if not page["items"] and not cursor:
            click.echo("none was made yet; the first administrator's stands in no list", err=True)
        cursor = page["next"]
        for row in page["items"]:
            places = "".join(f"  {name} {','.join(row[name])}" for name in ("sites", "teams") if row[name])
            moments = (("made", "created_at"), ("until", "expires_at"), ("revoked", "revoked_at"))
            times = "".join(f"  {word} {row[name]}" for word, name in moments if row[name])
            click.echo(f"{row['id']}  {row['name']}  {','.join(row['roles'])}{places}{times}")


@key.command()
@click.argument("id")
def revoke(id: str) -> None:
    """End the key with this id (`answerline key list` shows it). It stops working within seconds."""
    units = _units()
    keys.revoke(units, id)
    _note(units, "answerline key revoke", id)
    click.echo("revoked")


@key.command("reseal")
def reseal() -> None:
    """Seal all kept secrets with the newest key of ANSWERLINE_SECRET_KEY; the others may go then."""
    units = _units()
    click.echo(f"sealed anew: {sealing.reseal(units, sealing.Sealer(config.load().sealing_keys()), SEALED)}")
