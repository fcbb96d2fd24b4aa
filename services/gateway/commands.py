"""What the gateway adds to the command line."""

import click

from services.gateway import keys
from shared import clock, config
from shared.bus.outbox import UnitOfWork
from shared.runtime import context


@click.group()
def key() -> None:
    """API keys."""


def _units() -> UnitOfWork:
    return context.build("gateway", config.load()).units


@key.command()
@click.argument("name")
@click.option("--role", "roles", multiple=True, required=True, type=click.Choice(keys.ROLES), help="May be given several times.")
def create(name: str, roles: tuple[str, ...]) -> None:
    """Make a key called NAME. It is shown this once."""
    made = keys.create(_units(), name, list(roles))
    click.echo(f"id   {made['id']}\nkey  {made['key']}")


@key.command("list")
def list_keys() -> None:
    """Which keys there are: id, name, roles. The keys themselves are not kept."""
    for row in keys.listing(_units()):
        ended = f"  revoked {clock.to_text(row['revoked_at'])}" if row["revoked_at"] else ""
        click.echo(f"{row['id']}  {row['name']}  {','.join(row['roles'])}  made {clock.to_text(row['created_at'])}{ended}")


@key.command()
@click.argument("id")
def revoke(id: str) -> None:
    """End the key with this id (`answerline key list` shows it). It stops working within seconds."""
    keys.revoke(_units(), id)
    click.echo("revoked")
