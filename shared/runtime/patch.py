"""Makes everything that waits wait cooperatively. To be imported and applied before anything else is."""

from typing import Any


def apply() -> None:
    import eventlet

    eventlet.monkey_patch()
    from psycopg2.extensions import set_wait_callback

    set_wait_callback(_wait_for_database)


def _wait_for_database(connection: Any) -> None:
    """Where others work meanwhile; but not for ever. What is raised here makes psycopg2 close the connection."""
    from eventlet.hubs import trampoline
    from psycopg2 import OperationalError
    from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE

    from shared.db.engine import PATIENCE

    seconds = PATIENCE.get()
    while (state := connection.poll()) != POLL_OK:
        if state not in (POLL_READ, POLL_WRITE):
            raise OperationalError(f"the driver does not know how to go on (state {state})")
        silence = OperationalError(f"the database said nothing for {seconds:g} s")
        trampoline(connection.fileno(), read=state == POLL_READ, write=state == POLL_WRITE, timeout=seconds, timeout_exc=silence)
