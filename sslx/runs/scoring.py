"""Scores of a run: of its trained and its untrained method and of the floors, on its own or on other data."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch import Tensor

from sslx.core.catalogue import catalogue
from sslx.core.console import say, tolerant
from sslx.core.dotted import merge
from sslx.core.files import plain
from sslx.core.interfaces import Dataset, Method, Module
from sslx.core.options import label, make, to_dict
from sslx.core.team import Team
from sslx.core.training import checkpoint
from sslx.core.training.config import RunConfig
from sslx.core.training.evaluation import evaluate, features
from sslx.core.training.run import Launch, Run, build
from sslx.core.training.runtime import LIMIT, Runtime
from sslx.outputs.pictures import draw
from sslx.runs.data import Halves, alike, chosen, identity, load_data
from sslx.runs.floors import FLOORS, floor_method, floors


def halves_to_score(config: RunConfig, data: Halves, launch: Launch, runtime: Runtime) -> Halves:
    """The images of a run that are scored: its own, or those of another dataset in their shape."""
    if config.eval_dataset is None:
        return data
    C, H, W = data[0].images.shape[1:]
    return other_halves(config.eval_dataset, (C, H, W), launch, runtime)


def other_halves(dataset: Dataset, shape: tuple[int, int, int], launch: Launch, runtime: Runtime) -> Halves:
    """Both halves of another dataset than that of the training, in the shape (C, H, W) of its images."""
    train, test = load_data(dataset, launch, runtime)
    if (found := tuple(train.images.shape[1:])) != shape:
        say(f"images of {label(dataset)} are converted from {found} to {shape}")
    return alike(train, shape), alike(test, shape)


def other_dataset(run: Run, dataset: Any) -> dict[str, Any]:
    """The layer of a config that scores another dataset than the run's, or nothing."""
    if dataset is None:
        return {}
    own = _own_dataset(run)
    if isinstance(dataset, Mapping):
        dataset = merge({"": own}, {"": dataset})[""]
    with catalogue().on_record(run.trust_code):
        made = make(Dataset, dataset, "dataset", preferred=run.likeness)
    return {} if plain(to_dict(made)) == _filled(plain(own), made) else {"eval_dataset": made}


def methods_of(
    run: Run, method: Method, data: Halves, runtime: Runtime, launch: Launch
) -> Mapping[str, Callable[[], Method]]:
    """The methods that are scored by name, each made when it is first asked for."""
    config = run.config

    @cache
    def untrained() -> Method:
        made = build(config, **run.data)
        if any(type(part).begin is not Module.begin for part in made.modules() if isinstance(part, Module)):
            halves = config.dataset.halves(launch.data_dir, launch.offline)
            made.begin((data if config.eval_dataset is None else chosen(config, halves))[0])
        return made.to(runtime.device)

    return {"trained": lambda: method, "untrained": untrained}


@contextmanager
def together(
    run: Run, method: Callable[[], Method], data: Halves, runtime: Runtime, launch: Launch
) -> Iterator[Team | None]:
    """In the main process of several, the team that shares the work of the block; the others serve it, then pass by.

    Args:
        method: makes the trained method.
        data: as in `score_run`.
    """
    methods = cache(lambda: methods_of(run, method(), data, runtime, launch))
    floor = cache(lambda who: floor_method(who, data[0]).to(runtime.device))

    def encode(who: str, half: str, of: str) -> Tensor:
        share, what = (runtime.rank, runtime.world), f"{of} of {who} {half} images"
        own, split = who in methods(), data[half == "test"]
        subject, precision = (methods()[who](), run.config.train.precision) if own else (floor(who), "fp32")
        return features(subject.eval(), split, runtime.device, what, of, precision, share).z

    if runtime.world == 1:
        yield None
        return
    team = Team(encode, LIMIT)
    if not runtime.main:
        team.serve()
        yield None
        return
    with team.leading():
        yield team


def score_run(
    run: Run,
    method: Method,
    data: Halves,
    runtime: Runtime,
    launch: Launch,
    previous: Mapping[str, Any] = {},
    changed: str = "",
    team: Team | None = None,
) -> dict[str, Any]:
    """Scores of the trained and the untrained method and of the floors, into results.json.

    After an interruption, what evaluation.json has for the same checkpoint, options and data is not computed again.

    Args:
        data: the images that are scored, which are those of the config, in the shape of the run's.
        previous: the content of results.json.
        changed: how the images differ from those of the training, if they should be the same.
        team: the processes that share the work, in the main one of several.
    """

    def load(dataset: Dataset) -> Halves:
        return dataset.halves(launch.data_dir, launch.offline)

    def paint(picture: str, images: Tensor) -> None:
        with tolerant(f"{picture}.png: not drawn"):
            rows = ("test images", "decoded") if picture.startswith("reconstruction") else ()
            draw(images, run.path / f"{picture}.png", picture, rows)

    methods = methods_of(run, method, data, runtime, launch)
    config, step = run.config, checkpoint.manifest(run.trained())["step"]
    scored = config.eval_dataset or config.dataset
    facts_of_data = identity(scored, data)
    recorded = previous.get("data", {"dataset": _own_dataset(run)})["dataset"]
    own = _filled(recorded, scored) == facts_of_data["dataset"]
    others = list(previous.get("others", []))
    before: Mapping[str, Any] = previous
    if previous and not own:
        same = (each for each in others if _filled(each["data"]["dataset"], scored) == facts_of_data["dataset"])
        before = next(same, {})
    begun = run.folder.read("evaluation.json") or {}
    state = {"step": step, "other_data": changed, "dataset": facts_of_data["dataset"]}
    if any(begun.get(key) != value for key, value in state.items()):
        begun = {}
    report: dict[str, Any] = {"trained": {}, "untrained": {}}
    notes: dict[str, Any] = {} if run.checkpoint is None else {"checkpoint": step}
    if changed:
        notes["other_data"] = changed
        say(f"{run.path}: evaluated on other data: {changed}")
    for name in report:
        for evaluator, part in config.evaluators.items():
            done = begun.get(name, {}).get(evaluator, {})
            if "scores" in done and done.get("options") == plain(to_dict(part)):
                report[name][evaluator] = done
        missing = {key: part for key, part in config.evaluators.items() if key not in report[name]}
        if missing:
            subject = methods[name]()

            def keep(evaluator: str, result: dict[str, Any], into: dict[str, Any] = report[name]) -> None:
                into[evaluator] = result | notes
                run.folder.write("evaluation.json", state | report)

            evaluate(
                missing, subject, data, config.views, runtime.device, config.seed, load, name, keep,
                config.train.precision, launch.offline, paint if name == "trained" else lambda picture, images: None,
                team,
            )  # fmt: skip
        report[name] = {key: report[name][key] for key in config.evaluators}
    report |= floors(config, report["trained"], data, runtime.device, load, team)
    report = {name: {**before.get(name, {}), **report.get(name, {})} for name in ("trained", "untrained", *FLOORS)}
    report["data"] = facts_of_data
    if previous:
        say(f"the previous results are in {run.folder.keep_results()}")
    whole = report | {"others": others} if others else report
    if previous and not own:
        whole = {**previous, "others": [*(each for each in others if each is not before), report]}
    run.folder.write("results.json", whole)
    (run.path / "evaluation.json").unlink(missing_ok=True)
    return report


def _filled(recorded: Mapping[str, Any], dataset: Dataset) -> Mapping[str, Any]:
    """A recorded dataset with the defaults of the options that were added since, if it is of the same kind."""
    now = plain(to_dict(dataset))
    if recorded.get("use") != now["use"] or now.keys() <= recorded.keys():
        return recorded
    made = make(Dataset, {**recorded, "use": type(dataset)}, "dataset")
    return {**plain(to_dict(made)), "use": now["use"]}


def _own_dataset(run: Run) -> Any:
    """The dataset, as a table, that a run is scored on by itself."""
    other = run.settings.get("eval_dataset", "none")
    return run.settings["dataset"] if other == "none" else other
