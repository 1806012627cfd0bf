"""Runs with their images, as the plots of methods take them."""

import json
from collections.abc import Sequence

from sslx.core.console import say
from sslx.core.randomness import borrowed
from sslx.core.training.run import Launch, Run
from sslx.core.training.runtime import Runtime
from sslx.outputs.plots import Subject
from sslx.outputs.tables import alike
from sslx.runs import provenance
from sslx.runs.data import Halves, changes, chosen, fingerprint, load_data


def subjects(runs: Sequence[Run], launch: Launch | None = None) -> list[Subject]:
    """The trained methods of runs with the images of their datasets, under the names that tables give them.

    Runs that differ only in the seed have it in their names. What differs from the images of the training is said.

    Args:
        launch: where the data is and on which device the methods compute, if not as in the first run.
    """
    launch = launch or runs[0].launch
    runtime, loaded = Runtime.start(launch.device), dict[str, Halves]()
    found = []
    for name, members in alike(runs):
        for run in members:
            provenance.say_differences(run)
            key = json.dumps(run.settings["dataset"])
            with borrowed():
                if key not in loaded:
                    loaded[key] = load_data(run.config.dataset, launch, runtime)
                train, test = chosen(run.config, loaded[key])
                method = run.method().to(runtime.device)
            for line in changes(run.folder.facts().get("fingerprint", {}), fingerprint(loaded[key])):
                say(f"{run.path}: {line}")
            full = name if len(members) == 1 else f"{name}, seed={run.settings['seed']}"
            found.append(Subject(full, method, train, test, run.config.views, run.config.seed, runtime.device))
    return found
