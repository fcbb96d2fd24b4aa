"""What the gateway adds to the command line."""

import click

from services.gateway import keys
from shared import config
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


@key.command()
@click.argument("id")
def revoke(id: str) -> None:
    """End a key. It stops working within seconds."""
    keys.revoke(_units(), id)
    click.echo("revoked")
