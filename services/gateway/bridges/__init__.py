"""Bridges: small processes beside a telephony system. They carry what it says to the gateway, or put its calls through. `answerline bridge …`."""

from importlib import import_module

import click

COMMANDS = {
    "asterisk-ami": "asterisk_ami:follow",
    "asterisk-ari": "asterisk_ari:follow",
    "asterisk-control": "controller_ami:control",
    "asterisk-control-ari": "controller_ari:control",
    "queue-log-tail": "queue_log_tail:follow",
    "freeswitch": "freeswitch:follow",
    "freeswitch-cdr-spool": "freeswitch:import_spool",
}


class _Bridges(click.Group):
    """Loads a bridge when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        return getattr(import_module(f"services.gateway.bridges.{module}"), name)


@click.group(cls=_Bridges)
def bridge() -> None:
    """Carry what a telephony system says to the gateway, or put its calls through: connect to it, resume after a break."""
