"""Checks of trackers."""

from __future__ import annotations

import pluggy

from sslx.plugins import hookspecs
from sslx.testing.components import Subject


def implements_hooks_of_sslx(subject: Subject) -> None:
    """At least one, and each with arguments that the hook has."""
    manager = pluggy.PluginManager("sslx")
    manager.add_hookspecs(hookspecs)
    tracker = subject.make()
    manager.register(tracker)  # refuses an argument that the hook does not have
    manager.check_pending()  # refuses a hook that does not exist
    assert manager.get_hookcallers(tracker), "no method of it is marked with hookimpl"


CHECKS = {"tracker": (implements_hooks_of_sslx,)}
