pytest_plugins = ["tests.stack.plugin", "tests.system"]
