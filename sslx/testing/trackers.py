import pluggy

from sslx.plugins import hookspecs
from sslx.testing.components import Subject, check


@check("tracker")
def implements_hooks_of_sslx(subject: Subject) -> None:
    """At least one method is a hook, and the hooks have no unknown arguments."""
    manager = pluggy.PluginManager("sslx")
    manager.add_hookspecs(hookspecs)
    tracker = subject.make()
    manager.register(tracker)  # refuses an argument that the hook does not have
    manager.check_pending()  # refuses a hook that does not exist
    assert manager.get_hookcallers(tracker), "no method is marked with hookimpl"
