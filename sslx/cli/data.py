"""`sslx data`: datasets apart from runs."""

from __future__ import annotations

import click

from sslx.cli.preview import preview_command


@click.group("data")
def data_command() -> None:
    """Look at datasets."""


data_command.add_command(preview_command)
