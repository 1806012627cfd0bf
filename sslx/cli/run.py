"""Commands that start, resume, evaluate and compare runs."""

import difflib
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import attrs
import click

from sslx.cli.arguments import (
    check_alone,
    check_jobs,
    checkpoint_option,
    jobs_option,
    launch_options,
    launched,
    launcher_option,
    options,
    sbatch_options,
    trust_option,
    words,
)
from sslx.cli.layout import echo, filled, screen
from sslx.cli.paths import PATH, out_option
from sslx.core.catalogue import catalogue
from sslx.core.console import is_launched, is_main, printable, say
from sslx.core.dotted import merge, nest, parse
from sslx.core.errors import ConfigError, SslxError
from sslx.core.files import replace
from sslx.core.options import options_of
from sslx.core.toml import read
from sslx.core.training.config import RunConfig, evaluator_table, layer, unlayer
from sslx.core.training.launch import relaunch
from sslx.core.training.run import Launch, Run
from sslx.core.training.run_folder import RunFolder
from sslx.core.training.runtime import Runtime
from sslx.core.values import Text
from sslx.outputs import formats
from sslx.outputs.tables import failures, tables
from sslx.plugins import code
from sslx.plugins.registry import registry
from sslx.runs import provenance, session, slurm
from sslx.runs.grid import Grid, is_grid, opened
from sslx.runs.plan import plan, read_sweep
from sslx.runs.protocols import protocols, with_protocol
from sslx.runs.search import Search
from sslx.runs.studies import recipe as recipe_config
from sslx.runs.verify import verify

_SECTIONS = ", ".join(f"{name}.KEY" for name, each in options_of(RunConfig).items() if each.slot is not None)
#: The option that each flag of `sslx run` sets.
_FLAGS = {
    "dataset": "dataset",
    "eval_dataset": "eval_dataset",
    "bad_images": "dataset.bad_images",
    "loader": "loader",
    "views": "views.count",
    "subset": "subset",
    "epochs": "train.epochs",
    "batch_size": "train.batch_size",
    "lr": "train.optimizer.lr",
    "cpu_seconds": "train.cpu_seconds",
    "evaluate_every": "train.evaluate.every",
    "precision": "train.precision",
    "compile": "train.compile",
}

#: The flags of `sslx run` that name components, and the kinds of these.
_NAMING = {"--plugin": "method", "--dataset": "dataset", "--views": "views", "--evaluators": "evaluator"}

_protocol_option = click.option(
    "--protocol",
    metavar="NAME",
    help=f"Score as a paper does: {', '.join(protocols())}, or a FILE.toml. Those of --evaluators come in addition.",
)


@click.command("run", context_settings={"allow_extra_args": True})
@click.option("--plugin", "-p", help="Methods, separated by commas: names or ./file.py:Class.")
@click.option("--dataset", "-d", help="Dataset to train on and to evaluate with.  [digits]")
@click.option("--eval-dataset", help="Another dataset, whose images and labels are scored.  [that of --dataset]")
@click.option("--loader", "-l", help="Data loader: memory keeps all images, ffcv reads a .beton file.  [memory]")
@click.option("--set", "-s", "settings", multiple=True, metavar="KEY=VALUE", help="An option of the method, or of "
              f"a section: {_SECTIONS}. Repeatable.")  # fmt: skip
@click.option("--epochs", help="Number of passes over the training set.")
@click.option("--batch-size", help="Number of images per step. Each image gives several views.")
@click.option("--lr", help="Learning rate at the end of warm-up.")
@click.option("--views", help="Number of views of each image, or the view policy that makes them, such as simclr.")
@click.option("--subset", help="Train on a random subset of this many images, which the seed chooses.")
@click.option("--bad-images", help="What to do with files that cannot be read as images: fail or skip.  [fail]")
@click.option("--seed", help="Seed of everything random, or several seeds separated by commas.  [0]")
@click.option("--restarts", type=click.IntRange(2), help="Train with this many successive seeds and rank the runs by "
              "their loss.")  # fmt: skip
@click.option("--cpu-seconds", help="Stop training after this much processor time.")
@click.option("--evaluate-every", metavar="EPOCHS", help="Score the representation by knn during training, each "
              "time after this number of epochs, on held-out training images.")  # fmt: skip
@click.option("--precision", help="Floating-point precision: fp32, tf32, bf16 or fp16.  [fp32]")
@click.option("--compile", flag_value="true", help="Compile the method with torch.compile.")
@click.option("--evaluators", "-e", help="Evaluators, separated by commas, or all.  [knn,linear]")
@_protocol_option
@click.option("--config", type=PATH, help="A config.toml with settings, or the folder of a run to repeat.")
@click.option("--sweep", type=PATH, help="Many runs: a config with lists of values in [grid], or tables in [[runs]].")
@click.option("--recipe", metavar="STUDY", help="Run the one row of a study, with the settings of its paper.")
@click.option("--from", "source", help="Start with the weights of a run, of a .safetensors file or of timm:NAME.")
@click.option("--out", "-o", type=PATH, help="Folder of the run.  [runs/DATASET-METHOD-N]")
@jobs_option
@launcher_option
@trust_option
@options(launch_options)
def run_command(
    plugin: str | None,
    settings: Sequence[str],
    seed: str | None,
    evaluators: str | None,
    protocol: str | None,
    config: Path | None,
    sweep: Path | None,
    recipe: str | None,
    source: str | None,
    out: Path | None,
    restarts: int | None,
    jobs: int | None,
    launcher: str | None,
    trust_code: bool,
    **flags: Any,
) -> None:
    """Train methods and evaluate their representations.

    `sslx plugins show METHOD` lists the options for `--set`. Several methods or seeds, or a sweep, make several runs in
    one folder; the same command again continues the unfinished ones. --restarts N trains with N successive seeds and
    ranks the runs without labels, by the distances of the terms of the loss from their known minima.
    """
    if others := click.get_current_context().args:
        raise ConfigError(f"unexpected argument {' '.join(others)}{_meant(others)}")
    launch = launched(flags)
    if config is not None and config.is_dir():
        config = config / "config.toml"
    if sum(each is not None for each in (sweep, config, recipe)) > 1:
        raise ConfigError("expected one of --config, --sweep and --recipe, as each of them is a whole config")
    base, choices = read_sweep(sweep) if sweep else (read(config) if config else {}, [{}])
    search = Search.read(base.pop("search")) if sweep and "search" in base else None
    if recipe is not None:
        base = recipe_config(recipe)
    here = {_FLAGS[flag]: Text(value) for flag, value in flags.items() if value is not None}
    if not _is_number(here.get("views.count", "0")):  # it names a policy
        here["views"] = here.pop("views.count")
    here |= dict(map(parse, settings))
    if source is not None:
        here["weights"] = Text(source)
    if search is not None:
        if twice := search.space.keys() & unlayer(layer(here)).keys():
            raise ConfigError(f"search.space.{min(twice)}: is searched, and is given as an option as well")
        choices = [{**choice, **options} for choice in choices for options in ({}, *search.corners())]
    methods, names = words(plugin or ""), None if evaluators is None else words(evaluators)
    if methods and (other := here.get("method", here.get("method.use"))) is not None:
        raise ConfigError(f"method: is given twice, as {plugin} by --plugin and as {other} by --set")
    if seed is not None and not words(seed):
        raise ConfigError(f"--seed: expected an integer, or several separated by commas, got {seed!r}")
    catalogue().vouch([*methods, *here.values(), *(names or [])])
    # The files of a run or a grid may be somebody else's. Other files are the user's own.
    on_record = any(_of_a_run(file) for file in (config, sweep) if file is not None)
    with catalogue().on_record(trust_code) if on_record else nullcontext():
        configs = plan(
            here,
            methods=methods,
            seeds=[Text(each) for each in words(seed or "")],
            restarts=restarts,
            evaluators=names,
            protocol=protocol,
            base=base,
            choices=choices,
        )
    first, *more = configs.values()
    if config is not None and on_record and (facts := RunFolder(config.parent).facts()):  # this repeats a run
        for line in provenance.differences(facts):
            say(f"{config.parent}: {line}")
        provenance.say_changes(RunFolder(config.parent))
    mine = trust_code or not on_record
    if search is not None:
        if len(configs) != 1 + len(search.corners()):
            raise ConfigError("search: expected one run whose options are searched, got several methods, seeds or runs")
        for each in configs.values():
            search.check(each)
        _carry_out(Grid.searching(out, search, first, launch, mine), jobs, launcher)
    elif more or sweep is not None:
        _carry_out(Grid.make(out, configs, launch, restarts is not None, mine), jobs, launcher)
    else:
        check_alone(jobs, launcher)
        _relaunch_for(launch)
        _print([session.start(first, launch, out)])


def _of_a_run(file: Path) -> bool:
    """Whether a file with settings is the config.toml of a run, or lies in the folder of a run or a grid."""
    return file.name == "config.toml" or any((file.parent / name).exists() for name in ("run.json", "grid.json"))


def _meant(arguments: Sequence[str]) -> str:
    """The flags that were meant by arguments without one, such as `--plugin simvae`, as a question."""
    flags = {name: flag for flag, kind in reversed(_NAMING.items()) for name in registry().providers(kind)}
    meant: dict[str, list[str]] = {}
    for name in words(",".join(arguments)):
        short = name.partition(":")[0]
        if code.is_reference(name):
            meant.setdefault("--plugin", []).append(name)
        elif close := [short] if short in flags else difflib.get_close_matches(short, flags, n=1, cutoff=0.5):
            meant.setdefault(flags[close[0]], []).append(close[0] + name.removeprefix(short))
    if not meant:
        return "; --plugin METHOD chooses a method, and `sslx plugins list --kind method` shows all methods"
    return f" (did you mean {' '.join(f'{flag} ' + ','.join(names) for flag, names in meant.items())}?)"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@click.command("resume")
@click.argument("path", metavar="RUN", type=PATH)
@click.option("--epochs", help="Train up to this number of epochs; a finished run is continued.")
@click.option("--set", "-s", "settings", multiple=True, metavar="KEY=VALUE", help="An option to change from here "
              "on: of train (but batch_size), loader or evaluators, or a path of the dataset. Repeatable.")  # fmt: skip
@click.option("--changed-data", is_flag=True, help="Continue even if the images have changed since the run began.")
@jobs_option
@launcher_option
@trust_option
@options(launch_options)
def resume_command(
    path: Path,
    epochs: str | None,
    settings: Sequence[str],
    changed_data: bool,
    jobs: int | None,
    launcher: str | None,
    trust_code: bool,
    **flags: Any,
) -> None:
    """Continue an interrupted run, or the runs of a grid, with the same result as without the interruption.

    A finished run does not change, unless --epochs lets it train longer. What changes is recorded in run.json.
    """
    changes = dict(map(parse, settings)) | ({"train.epochs": Text(epochs)} if epochs else {})
    here, only = (path.parent, path.name) if _is_to_begin(path) else (path, None)
    if is_grid(here):
        if changes or changed_data:
            raise ConfigError(
                f"{here}: options of a grid cannot change; `sslx resume {here}/NAME` changes those of a run"
            )
        grid = Grid.open(here, trust_code)
        grid = attrs.evolve(grid, launch=launched(flags, grid.launch))
        _carry_out(grid, jobs, launcher, only)
        return
    check_alone(jobs, launcher)
    run = session.open_run(path)
    launch = launched(flags, run.launch)
    run.folder.config()  # is refused if it was edited
    if run.folder.finished and not changes:
        echo(f"{path} is finished")
    else:
        _relaunch_for(launch)
        run = session.resume(path, launch, changes=changes, changed_data=changed_data, trust_code=trust_code)
    _print([run])


def _is_to_begin(path: Path) -> bool:
    """Whether this is the folder of a run of a grid that has not begun."""
    here = path.parent
    return is_grid(here) and not (path / "config.toml").exists() and path.name in Grid.open(here).configs


@click.command("eval")
@click.argument("path", metavar="[RUN]", type=PATH, required=False)
@click.option("--model", help="Evaluate this encoder instead of a run: timm:NAME, or a .safetensors file. The result "
              "is a run without training.")  # fmt: skip
@click.option("--dataset", "-d", help="Another dataset, whose images and labels are scored.  [that of the run]")
@click.option("--evaluators", "-e", default="", help="Evaluators, separated by commas, or all.  [those of the run]")
@_protocol_option
@click.option("--set", "-s", "settings", multiple=True, metavar="KEY=VALUE", help="An option: EVALUATOR.KEY of "
              "an evaluator, dataset.KEY of the dataset, with --model also encoder.KEY. Repeatable.")  # fmt: skip
@click.option("--out", "-o", type=PATH, help="With --model, the folder of the run.  [runs/DATASET-random-N]")
@checkpoint_option
@trust_option
@options(launch_options)
def eval_command(
    path: Path | None,
    model: str | None,
    dataset: str | None,
    evaluators: str,
    protocol: str | None,
    settings: Sequence[str],
    out: Path | None,
    checkpoint: int | None,
    trust_code: bool,
    **flags: Any,
) -> None:
    """Evaluate a finished run, or the finished runs of a grid, with other evaluators, on other data or at another step.

    Without names, the evaluators of the run do it again. With --model, evaluate any encoder with the preprocessing of
    its weights.
    """
    if model is not None and (Path(model).expanduser() / "config.toml").is_file():
        path, model = Path(model).expanduser(), None
    if (path is None) is (model is None):
        raise ConfigError("expected the folder of a run, or --model timm:NAME or --model FILE.safetensors")
    chosen = evaluator_table(session.evaluator_names(words(evaluators)))
    if protocol is not None:
        chosen = with_protocol(protocol, chosen)
    here = dict(map(parse, settings))
    given = nest({key.removeprefix("evaluators."): value for key, value in here.items()})
    data = {**({} if dataset is None else {"use": Text(dataset)}), **given.pop("dataset", {})}
    encoder = given.pop("encoder", {}) if model is not None else {}

    def table(own: Mapping[str, Any]) -> dict[str, Any]:
        if not own:
            known = ", ".join(registry().providers("evaluator"))
            raise ConfigError(f"--evaluators: expected names of evaluators, or --protocol; choose from {known}, or all")
        if others := sorted(given.keys() - own.keys()):
            raise ConfigError(f"--set {others[0]}: expected an option of one of the evaluators, {', '.join(own)}")
        return merge(own, given)

    catalogue().vouch([dataset, *here.values()])
    if model is not None:
        _print([session.evaluate_model(model, table(chosen), data, encoder, launched(flags), out, trust_code)])
        return
    assert path is not None
    if out is not None:
        raise ConfigError("--out: results of a run are added to it; --out is for --model")
    runs = opened([path], trust_code, checkpoint)
    launch = launched(flags, runs[0].launch)
    tables = [table(chosen or run.settings["evaluators"]) for run in runs]
    _relaunch_for(launch)
    _print([session.evaluate(run, each, launch, dataset=data or None) for run, each in zip(runs, tables, strict=True)])


@click.command("compare")
@click.argument("paths", metavar="RUN...", type=PATH, nargs=-1, required=True)
@click.option("--scores", help="Columns, separated by commas. The name of an evaluator means its first score, and * "
              "matches any text.  [all]")  # fmt: skip
@click.option("--sort-by", metavar="SCORE", default="", help="Sort the methods by this score: the best one comes first "
              "if the evaluator says what is best, otherwise the largest one.")  # fmt: skip
@click.option("--relative-to", metavar="ROW", default="", help="Print the differences of all scores from those of the "
              "row with this name.")  # fmt: skip
@click.option(
    "--format", "style", type=click.Choice(list(formats.FORMATS)), default="text", help="Format of the table.  [text]"
)
@out_option("out", type=PATH, help="Write the table to this file.")
def compare_command(
    paths: Sequence[Path], scores: str | None, sort_by: str, relative_to: str, style: str, out: Path | None
) -> None:
    """Print one table of several runs or grids, with mean and standard error over runs that differ only in the seed.

    Each dataset has its own table. If runs of a method differ in options, the names of the rows show these options.
    """
    runs = opened(paths)
    if unfinished := [str(run.path) for run in runs if not run.folder.finished]:
        raise ConfigError(f"not finished: {', '.join(unfinished)}; `sslx resume` continues a run")
    found = tables(runs, words(scores or ""), sort_by, relative_to)
    output = formats.text(found, screen()) if style == "text" and out is None else formats.FORMATS[style](found)
    if out is None:
        echo(*output.splitlines())
    else:
        try:
            replace(out, output)  # and does not write through a link
        except OSError as error:
            raise ConfigError(f"--out: {out} cannot be written ({error.strerror})") from error
    if style == "csv":  # the file has no place for notes
        echo(*(note for table in found for note in table.notes), err=True)


@click.command("replay")
@click.argument("path", metavar="RUN", type=PATH)
@trust_option
def replay_command(path: Path, trust_code: bool) -> None:
    """Repeat the step at which a run crashed, and show where the first NaN arose."""
    facts = session.replay_run(path, trust_code)
    train = session.open_run(path).settings["train"]
    terms = ", ".join(f"{name} {value:.4g}" for name, value in facts["terms"].items())
    lines = [
        f"step {facts['step']} of {path} again, from the weights before it",
        f"terms of the loss: {terms}",
        f"norm of the gradient: {facts['gradient_norm']:.4g}",
        f"terms whose gradients are not finite: {', '.join(facts['gradients']) or 'none'}",
        f"first module with an output that is not finite: {facts['module'] or 'none'}",
        f"first function with a gradient that is NaN: {facts['anomaly'] or 'none'}",
        f"advice: a smaller learning rate, --set train.lr, which is {train['optimizer']['lr']:g}; a limit on the "
        f"gradient, --set train.clip_norm, which is {train['clip_norm']}; more epochs of warm-up, --set "
        "train.warmup_epochs" + ("; --precision fp32" if train["precision"] != "fp32" else ""),
    ]
    for line in lines:
        echo(*filled(printable(line), "", 2))


@click.command("verify")
@click.argument("path", metavar="RUN", type=PATH)
@trust_option
def verify_command(path: Path, trust_code: bool) -> None:
    """Check that the files of a run, its code and its images are as they were, and say what is not.

    The exit code is 0 if everything is whole, 1 otherwise.
    """
    broken = 0
    for what, problems in verify(path, trust_code):
        broken += bool(problems)
        echo(*(f"{what}: {line}" for line in problems or ["ok"]))
    if broken:
        raise SslxError(f"{path}: {broken} {'part is' if broken == 1 else 'parts are'} not whole")


def _relaunch_for(launch: Launch) -> None:
    """Run this command again in several processes and exit, if the launch asks for them and this is not one of them."""
    if launch.devices > 1 and not is_launched():
        sys.exit(relaunch(launch.devices))


def _carry_out(grid: Grid, jobs: int | None, launcher: str | None, only: str | None = None) -> None:
    """Train and evaluate the runs of a grid that are not finished, or one of them, and print the table."""
    if only is not None:
        check_alone(jobs, launcher)
    if launcher is not None and grid.search is not None:
        raise ConfigError(
            "--launcher: a search chooses the next run when others have ended; the same command in several jobs shares "
            "its runs"
        )
    if launcher is not None:
        failed = slurm.submit(grid, sbatch_options(launcher), jobs)
    else:
        check_jobs(jobs or 1, grid.launch)
        _relaunch_for(grid.launch)
        if is_main():
            grid.create()
        Runtime.start(grid.launch.device).barrier()
        failed = grid.carry_out(jobs or 1, only)
    runs = grid.finished()
    if is_main() and (trials := grid.trials()) is not None:
        echo(*trials.lines())
    elif is_main():
        ranking = grid.ranking() if grid.restarts else []
        if runs:
            shown = [group[0] for group in ranking] or runs
            echo(*formats.text(tables(shown), screen()).splitlines())
        echo(f"{grid.path}: {len(runs)} of {len(grid.configs)} runs are finished")
        for group in ranking:
            for place, run in enumerate(group, 1):
                rank = f"best of {len(group)} restarts (shown above):" if place == 1 else f"{place}."
                echo(f"{rank} {run.path}, {_diagnosis(run)}")
    if failed := [*failed, *failures(runs)]:
        raise SslxError("\n".join(failed))


def _diagnosis(run: Run) -> str:
    facts = run.training
    name = facts.get("score_by", "").replace("excess", "total excess loss")
    score = f"{name} {facts['score']:.4g}" if "score" in facts else "not trained"
    return score + (f": {facts['diagnosis']}" if facts.get("diagnosis") else "")


def _print(runs: Sequence[Run]) -> None:
    if is_main():
        echo(*formats.text(tables(runs), screen()).splitlines())
        for run in runs:
            facts = run.training
            cpu = f"{facts.get('cpu_seconds', 0):.1f} CPU-seconds"
            echo(f"{run.path}: trained {facts.get('seconds', 0):.1f} s ({cpu})")
            if facts.get("diagnosis"):
                echo(f"{run.path}: {facts['diagnosis']}")
    if failed := failures(runs):
        raise SslxError("\n".join(failed))
