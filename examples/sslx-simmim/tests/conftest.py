pytest_plugins = ["sslx.testing.fixtures"]
