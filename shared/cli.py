"""The `answerline` command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from shared import config
from shared.config import SettingError, Settings
from shared.runtime.definition import Definition, installed

if TYPE_CHECKING:
    from shared.bus.outbox import UnitOfWork


class Commands(click.Group):
    """Errors that the operator can mend are one clear line, without a traceback. What services add to it is imported when it is asked for:
    `up` and `service` must patch before anything else is imported."""

    def __init__(self, *arguments: Any, added: str, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.added = added

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._of_services()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or self._of_services().get(cmd_name)

    def _of_services(self) -> dict[str, click.Command]:
        return {str(command.name): command for one in installed().values() for command in getattr(one, self.added)()}

    def invoke(self, ctx: click.Context) -> Any:
        from shared.errors import AnswerlineError

        try:
            return super().invoke(ctx)
        except (SettingError, AnswerlineError) as error:
            raise click.ClickException(str(error)) from error
        except Exception as error:
            if ctx.invoked_subcommand not in LOOKING and not isinstance(error, PermissionError):
                raise
            mendable = _mendable(error)
            if mendable is None:
                raise
            raise mendable from error


LOOKING = ("backup", "key", "person", "dlq", "doctor")
"""Commands that work with the data of a running centre; the likeliest mistake is to call them elsewhere."""


def _mendable(error: Exception) -> click.ClickException | None:
    from sqlalchemy.exc import OperationalError, ProgrammingError

    if isinstance(error, PermissionError):
        return click.ClickException(f"no permission: {error.filename or error}")
    if not isinstance(error, OperationalError | ProgrammingError):
        return None
    data = f"; the data are looked for in {_settings().data.resolve()} (ANSWERLINE_DATA)" if not _settings().database_url else ""
    return click.ClickException(f"the database: {str(error.orig).strip().splitlines()[0]}{data}")


@click.group(cls=Commands, added="commands")
@click.version_option(package_name="answerline")
def main() -> None:
    """Answerline: every customer reaches somebody who can answer, at once."""


def _settings() -> Settings:
    return config.load()


def _patch() -> None:
    """Everything that waits must wait cooperatively: patch before anything else is imported."""
    from shared.runtime import patch

    patch.apply()


@main.command()
@click.option(
    "--sample/--no-sample", default=False, help="Set up a sample centre and play a recorded run of real telephony events through it."
)
@click.option(
    "--speed",
    default=4.0,
    show_default=True,
    type=click.FloatRange(0.1, 1000),
    help="How many times faster than life the sample is played.",
)
def up(sample: bool, speed: float) -> None:
    """Run all services in this one process."""
    _patch()
    from shared.observability import logging
    from shared.runtime import runner, web

    settings = _settings()
    logging.configure(settings.log_level)
    settings.make_data()
    definitions = list(installed().values())
    web.listen(settings.http_address).close()  # a taken address is said before anything else is touched
    runner.migrate_all(settings, definitions)
    key, made = settings.bootstrap_key()
    address = "http://{}:{}".format(*settings.http_address)

    def welcome(_contexts: Any) -> None:
        click.echo(f"\nAnswerline is up.\n  live page  {address}/\n  API        {address}/docs\n  metrics    {address}/metrics")
        kept = f"({'made now, ' if made else ''}kept in {settings.data / 'admin.key'})"
        click.echo("  admin key  as set" if settings.admin_key else f"  admin key  {key}  {kept}")
        for definition in definitions if sample else ():
            if definition.sample:
                definition.sample(address, key, speed)

    runner.run(settings, definitions, welcome)


@main.command()
@click.argument("name")
def service(name: str) -> None:
    """Run one service in a process of its own."""
    _patch()
    from shared.http.endpoint import endpoints_of
    from shared.observability import logging
    from shared.runtime import runner, web

    settings = _settings()
    if settings.embedded:
        raise SettingError("ANSWERLINE_BROKER_URL: a service alone needs a real broker, for example amqp://user:password@host//")
    logging.configure(settings.log_level, name)
    definition = _definition(name)
    if endpoints_of(definition.load()):
        web.listen(settings.http_address).close()  # a taken address is said before anything else is touched
    runner.run(settings, [definition], internal=True)


@main.command()
@click.argument("names", nargs=-1)
def migrate(names: tuple[str, ...]) -> None:
    """Bring the databases (all, or those of the services named) to their newest revision."""
    from shared.observability import logging
    from shared.runtime import runner

    settings = _settings()
    logging.configure(settings.log_level)
    runner.migrate_all(settings, [_definition(name) for name in names] if names else list(installed().values()))


def _definition(name: str) -> Definition:
    known = installed()
    if name not in known:
        raise click.BadParameter(f"no service is called {name}; there are {', '.join(known)}")
    return known[name]


@main.command()
@click.option("--service", "service_name", envvar="ANSWERLINE_SERVICE", help="Only this one; otherwise all.")
def doctor(service_name: str | None) -> None:
    """Look for the usual mistakes of an installation and say how to mend each. Exits with 1 when something is wrong."""
    import os

    from shared import doctor as checks

    chosen = [_definition(service_name)] if service_name else list(installed().values())
    findings = checks.examine(_settings(), chosen, os.environ)
    for finding in findings:
        click.echo(f"{finding.state if finding.state != 'bad' else 'BAD':4} {finding.what}: {finding.detail}")
        if finding.mend:
            click.echo(f"     -> {finding.mend}")
    sys.exit(any(finding.state == "bad" for finding in findings))


# ---- dead letters


@main.group()
def dlq() -> None:
    """Events that could not be applied: see them, mend the cause, let them be tried again."""


def _units(service: str) -> UnitOfWork:
    from shared.runtime import context

    return context.of_a_centre(_definition(service).name, _settings()).units


SERVICE = click.option(
    "--service", "service_name", envvar="ANSWERLINE_SERVICE", default="routing", show_default=True, help="Whose dead letters."
)


@dlq.command("list")
@SERVICE
@click.option("--state", type=click.Choice(["waiting", "retrying", "dead"]))
def dlq_list(service_name: str, state: str | None) -> None:
    """What is set aside, oldest first."""
    from shared import clock
    from shared.bus import deadletters

    rows = deadletters.listing(_units(service_name), state)
    if not rows:
        click.echo(f"{service_name}: nothing is set aside", err=True)
    for row in rows:
        click.echo(
            f"{row['id']}  {row['state']:8}  {row['attempts']} tries  {clock.to_text(row['at'])}  {row['type'] or '-'}  {row['cause']}"
        )


@dlq.command("show")
@SERVICE
@click.argument("id")
def dlq_show(service_name: str, id: str) -> None:
    """One event, whole. It may hold personal data."""
    from shared.bus import deadletters

    for name, value in deadletters.show(_units(service_name), id).items():
        click.echo(f"{name}: {value}")


@dlq.command("retry")
@SERVICE
@click.argument("id", required=False)
def dlq_retry(service_name: str, id: str | None) -> None:
    """Let one dead letter, or all of them, be tried again."""
    from shared.bus import deadletters

    click.echo(f"{deadletters.retry(_units(service_name), id)} will be tried again")


@dlq.command("drop")
@SERVICE
@click.argument("id")
@click.confirmation_option(prompt="The event is lost for good. Drop it?")
def dlq_drop(service_name: str, id: str) -> None:
    """Give one event up for good; what waits behind it goes on."""
    from shared.bus import deadletters

    deadletters.drop(_units(service_name), id)


@main.group(cls=Commands, added="benches")
def bench() -> None:
    """Measure what this machine reaches, beside a ceiling taken in the same run. Only ratios compare between machines."""


if __name__ == "__main__":
    sys.exit(main())
