from tests.system import name, own_system, system  # noqa: F401 - fixtures
