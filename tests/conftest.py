pytest_plugins = ["tests.stack.plugin"]
