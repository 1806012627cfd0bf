"""`python -m sslx`."""

from sslx.cli import main

main()
