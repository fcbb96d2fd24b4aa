"""Makes everything that waits wait cooperatively. To be imported and applied before anything else is."""


def apply() -> None:
    import eventlet

    eventlet.monkey_patch()
