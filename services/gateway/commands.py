"""What the gateway adds to the command line."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click

from services.gateway import audit, chats, keys, metrics, sealing, store, webhooks
from services.gateway.accounts import Accounts
from shared import backup as archives
from shared import clock, config
from shared.bus.outbox import UnitOfWork
from shared.errors import Conflict
from shared.runtime import context
from shared.runtime.definition import installed

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


# ---- backup and restore

STREAM = "-"
ARCHIVES = "answerline-????-??-??T??????Z.tar"
"""Names by time."""


def _say(line: str) -> None:
    click.echo(line, err=True)


def _told(summary: archives.Summary) -> str:
    return f"{summary.rows} rows, {summary.bytes} bytes, as of {clock.to_text(summary.made_at)}"


@click.command()
@click.argument("target", type=click.Path(allow_dash=True, path_type=Path))
@click.option("--with-keys", is_flag=True, help="Embedded: the files of keys too. Whoever has the archive then has everything.")
@click.option(
    "--keep", type=click.IntRange(1), help="With a folder: delete all but so many of the newest archives in it, when this one is whole."
)
def backup(target: Path, with_keys: bool, keep: int | None) -> None:
    """Write all databases, as of one moment and while they work, to the file or into the folder TARGET (- for the standard output)."""
    settings = config.load()
    if keep and not target.is_dir():
        raise click.UsageError(f"--keep: {target} is no folder")
    with _written(target) as out:
        summary = archives.backup(settings, list(installed().values()), out, _say, with_keys)
    told = _told(summary)
    with _units()() as work:
        audit.note(work.connection, "", "command line", metrics.BACKUP, metrics.BACKUP_OBJECT, 200, told)
    for old in sorted(target.glob(ARCHIVES))[:-keep] if keep else ():
        old.unlink()
    _say(told)


@contextmanager
def _written(target: Path) -> Iterator[IO[bytes]]:
    """A file that is there whole or not at all, for nobody else's eyes. Raises Conflict where one of that name is there."""
    if str(target) == STREAM:
        if sys.stdout.isatty():
            raise click.UsageError("an archive is nothing for a terminal: send it to a file")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if target.is_dir():
        target = target / f"answerline-{clock.to_text(clock.now()).replace(':', '').partition('.')[0]}Z.tar"
    if target.exists():
        raise Conflict(f"{target} is there already: give the archive another name")
    partial = target.with_name(target.name + ".partial")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    _say(str(target))


@click.command()
@click.argument("source", type=click.File("rb"))
@click.option("--check", is_flag=True, help="Only read it to its end and compare it with its sums.")
@click.option("--yes", is_flag=True, help="Do not ask: what is there now is lost.")
@click.option("--another-key", is_flag=True, help="Go on although the key that the archive's secrets are sealed with is not here.")
def restore(source: IO[bytes], check: bool, yes: bool, another_key: bool) -> None:
    """Put back what is in the archive SOURCE (- for the standard input), in place of all that is there. All services must be stopped."""
    if check:
        _say(f"whole: {_told(archives.check(source))}")
        return
    if not yes:
        if source.name == "<stdin>":
            raise click.UsageError("the archive comes by the standard input, so nobody can be asked: --yes")
        click.confirm("What is in the databases now is lost. Put the archive in its place?", abort=True)
    summary = archives.restore(config.load(), list(installed().values()), source, _say, another_key)
    told = _told(summary)
    with _units()() as work:
        audit.note(work.connection, "", "command line", "answerline restore", metrics.BACKUP_OBJECT, 200, told)
    _say(f"restored: {told}\nkeys and people are as they were then: end again what was ended since")
