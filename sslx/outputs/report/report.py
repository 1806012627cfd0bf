"""The report of a run or of a grid, made from the records in its folder. No code that they name is executed."""

import glob
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from inspect import getdoc
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs

from sslx.core.catalogue import catalogue
from sslx.core.console import tolerant
from sslx.core.errors import ConfigError, PluginError
from sslx.core.files import misfit
from sslx.core.toml import dumps
from sslx.core.training.during import column_of
from sslx.core.training.run import Run
from sslx.outputs.plots import curves
from sslx.outputs.plots.numbers import loss_and_terms
from sslx.outputs.plots.plot import listed
from sslx.outputs.report.gallery import shown
from sslx.outputs.report.page import Code, Facts, Figure, Link, Rows, Section, blocks_of, page
from sslx.outputs.rows import SEEN, TIME
from sslx.outputs.tables import alike, tables

NAME = "report.html"
_SECONDS = 30.0  # between two reports of a training
_SHARE = 0.02  # the part of the time that the reports of a training may take
_LINES = 12  # the most rows of a grid whose losses are drawn
#: What the pictures of a run show, by the names of their files.
_PICTURES = {
    "reconstructions": "Rows of test images over rows of their reconstructions.",
    "samples": "Images that the method has generated.",
    "plane": "Clusters and density of the method over the plane, with test points and samples.",
    "similarity": "Cosine similarities of the representations of up to ten classes, of eight test images each.",
    "similarity-views": "Cosine similarities of the representations of ten test images, of eight views each.",
    "posterior": "Divergence of each latent dimension from N(0, 1), the largest one first.",
    "views": "Rows of a test image and seven views of it, made as for training.",
}


def wanted(run: Run | None = None) -> bool:
    """Whether a run or a grid writes its report by itself.

    It does unless the environment says SSLX_REPORT=no, or the run has no evaluators, as that of a `Representation`.
    """
    return os.environ.get("SSLX_REPORT") != "no" and (run is None or bool(run.config.evaluators))


def written(run: Run) -> None:
    """Write the report of a run if it is wanted. A failure is one line on standard error."""
    if wanted(run):
        with tolerant(f"{run.path / NAME}: not written"):
            write(run)


def written_grid(folder: Path, names: Sequence[str]) -> None:
    """Write the report of a grid, as `written` does for a run."""
    if wanted():
        with tolerant(f"{folder / NAME}: not written"):
            write_grid(folder, names)


class Live:
    """Writes the report of a run while it trains, rarely enough to be cheap, and without an error that stops it."""

    def __init__(self, run: Run) -> None:
        self.run, self.due = run, time.monotonic() + _SECONDS if wanted(run) else math.inf

    def refresh(self) -> None:
        """Write the report if it is time. If that fails, one line says so and it is not tried again."""
        if (began := time.monotonic()) < self.due:
            return
        self.due = math.inf
        with tolerant(f"{self.run.path / NAME}: not written"):
            write(self.run)
            now = time.monotonic()
            self.due = now + max(_SECONDS, (now - began) / _SHARE)


# --- a run ------------------------------------------------------------------------------------------------------------


def write(run: Run, file: Path | None = None, how: str = "pca") -> None:
    """Write the report of a run as far as it has come, by default as report.html into its folder.

    Args:
        how: the map of the test images, one of `MAPS` of `gallery.py`.

    Raises:
        CheckpointError: a file of the run is damaged.
        ConfigError: the config cannot be read, or the map needs what is not installed.
    """
    found = [attrs.evolve(each, columns=[c for c in each.columns if c not in (TIME, SEEN)]) for each in tables([run])]
    scores = [block for table in found if table.columns for block in blocks_of(table, turned=True)]
    pictures = dict(_pictures(run.path))
    views = [pictures.pop("views")] if "views" in pictures else []
    of_latents = [pictures.pop(name) for name in ("similarity", "similarity-views", "posterior") if name in pictures]
    sections = [
        Section("Scores", scores),
        Section("Training", list(_training(run))),
        Section("Representation", [*shown(run.path, how), *of_latents]),
        Section("Images of the method", list(pictures.values())),
        Section("Views as the method saw them", views),
        Section("Options", [Code(dumps(run.settings))], folded=True),
        Section("Provenance", [Facts(_provenance(run))], folded=True),
    ]
    page(f"{run.name} on {run.dataset}", sections, file or run.path / NAME, _lead(run), _numbers(run), _state(run))


def _lead(run: Run) -> str:
    """What the run is, in two sentences."""
    settings = run.settings
    try:
        with catalogue().on_record(run.trust_code):
            about = getdoc(catalogue().resolve("method", settings["method"]["use"], "sslx").cls) or ""
    except (PluginError, ConfigError):
        about = ""  # its code is not installed, or is not trusted
    about = " ".join(about.partition("\n\n")[0].split())
    train, shape = settings.get("train", {}), " × ".join(map(str, run.image_shape))
    epochs = train.get("epochs", 0)
    what = f"{run.data['samples']:,} training images of {run.dataset}, {shape} each"
    how = f"{_trained(run, epochs)} on {what}" if epochs else f"Not trained; made for {what}"
    return f"{about} {how}, with seed {settings['seed']}.".strip()


def _trained(run: Run, epochs: int) -> str:
    """For how many epochs a run was trained, which a limit of time or a score may have ended before the last one."""
    planned = f"{epochs:,} epoch{'s' * (epochs > 1)}"
    if not run.training:
        return f"Is trained for {planned}"
    batch = run.settings["train"].get("batch_size", 1)
    done = run.training["images"] / batch / max(1, run.data["samples"] // batch)
    return f"Trained for {planned}" if done >= epochs else f"Trained for {done:.3g} of {planned}"


def _headlines(run: Run, which: str = "trained") -> dict[str, float]:
    """The first score of each evaluator.

    Args:
        which: that of the trained method, or `untrained`.
    """
    results = run.results.get(which, {})
    firsts = {name: next(iter(each["scores"].items())) for name, each in results.items() if each.get("scores")}
    return {column_of(name, score): value for name, (score, value) in firsts.items()}


def _numbers(run: Run) -> dict[str, str]:
    """What stands out: some headline scores, each with that of the untrained method, and the cost."""
    training, before = run.training, _headlines(run, "untrained")
    names = {name: f"{name}, untrained {before[name]:.4f}" if name in before else name for name in _headlines(run)}
    found = {names[name]: f"{value:.4f}" for name, value in list(_headlines(run).items())[:3]}
    if "score" in training:
        found[f"{training['score_by']}, label-free"] = f"{training['score']:.4g}"
    if training:
        found["CPU-seconds of training"] = f"{training['cpu_seconds']:,.1f}"
    return found


def _state(run: Run) -> str:
    if run.folder.finished:
        return ""
    train = run.settings.get("train", {})
    total = train.get("epochs", 0) * (run.data["samples"] // max(1, train.get("batch_size", 1)))
    step = max((record["step"] for record in run.folder.metrics()), default=0)
    what = "The training is done and the evaluation is not." if run.training else f"At step {step:,} of {total:,}."
    return f"Not finished. {what} While the run continues, reload this page to see more."


def _training(run: Run) -> Iterator[str | Figure]:
    facts = run.training
    if "score" in facts:
        yield (
            f"The label-free score of this training is {facts['score_by']} = {facts['score']:.4g}, the smaller the "
            "better."
        )
    if facts.get("diagnosis"):
        yield f"Diagnosis: {facts['diagnosis']}."
    if "best" in facts:
        best = facts["best"]
        yield f"{best['name']} was best at step {best['step']:,}, {best['score']:.4g}."
    terms = loss_and_terms(list(run.folder.metrics()))
    scores = list(_first_scores(run))
    for names, caption in (
        (terms, "The loss and its terms over the steps of training. A dashed line is the known minimum of a term."),
        (scores, "Scores during training, on the images that their names begin with."),
    ):
        if names:
            plot = curves([run], [glob.escape(name) for name in names])
            yield Figure(plot.svg(), plot.alt, caption)


def _first_scores(run: Run) -> Iterator[str]:
    """The first score during training of each evaluator. Its name begins with the images that were classified."""
    known = list(dict.fromkeys(name for _, values in run.folder.scores() for name in values))
    for evaluator in run.settings["train"].get("evaluate", {}).get("evaluators", []):
        yield from [name for name in known if name.partition("/")[2].startswith(evaluator)][:1]


def _pictures(folder: Path) -> Iterator[tuple[str, Figure]]:
    """The pictures of a run by name, known ones first."""
    names = sorted(path.stem for path in folder.glob("*.png") if path.is_file() and not path.is_symlink())
    for name in [*(each for each in _PICTURES if each in names), *(each for each in names if each not in _PICTURES)]:
        said = _PICTURES.get(name, f"Picture of an evaluator: {name}.")
        is_small = name not in ("plane", "posterior")
        with tolerant(f"{name}.png: not shown"):
            yield name, Figure((folder / f"{name}.png").read_bytes(), said, said, small=is_small)


def _provenance(run: Run) -> dict[str, str]:
    """What run.json says, without the config."""
    facts = {name: value for name, value in run.folder.facts().items() if name != "config" and value}
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in facts.items()
    }


# --- a grid -----------------------------------------------------------------------------------------------------------


def write_grid(folder: Path, names: Sequence[str], file: Path | None = None) -> None:
    """Write the report of a grid, whose runs have these names, by default as report.html into its folder.

    Raises CheckpointError or ConfigError if the files of a run cannot be read.
    """
    file = file or folder / NAME
    runs = {name: Run.open(folder / name) for name in names if (folder / name / "config.toml").is_file()}
    finished = [run for run in runs.values() if run.folder.finished]
    sections = [Section(f"Scores on {table.dataset}", [table]) for table in tables(finished)]
    loss = list[str | Figure]()
    if len(alike(finished)) > _LINES:
        loss.append(f"Losses of more than {_LINES} methods are not drawn here; `sslx plot` draws those of some runs.")
    else:
        for name in dict.fromkeys(run.name for run in finished):  # losses of different methods have different scales
            with suppress(ConfigError):  # it was not trained
                plot = curves([run for run in finished if run.name == name], ["loss"])
                loss.append(Figure(plot.svg(), plot.alt, f"The loss of {name} over the steps of training.", small=True))
    sections += [Section("Loss", loss), Section("Runs", [_runs(folder, names, runs, file)])]
    methods = listed(list(dict.fromkeys(run.name for run in runs.values()))) or "no method yet"
    datasets = listed(list(dict.fromkeys(run.dataset for run in runs.values()))) or "no dataset yet"
    lead = f"{len(names)} runs of {methods} on {datasets}, of which {len(finished)} are finished."
    page(f"Grid {folder.resolve().name}", sections, file, lead)


def _runs(folder: Path, names: Sequence[str], runs: Mapping[str, Run], file: Path) -> Rows:
    """All runs of a grid with their reports, states and headline scores."""
    failed = _failed(folder)
    columns = dict.fromkeys(column for run in runs.values() for column in _headlines(run))
    rows = list[list[str | Link]]()
    for name in names:
        run, page_of = runs.get(name), folder / name / NAME
        path = quote(os.path.relpath(page_of, file.parent))
        state = "finished" if run and run.folder.finished else "not finished" if run else "not begun"
        scores = _headlines(run) if run else {}
        facts = run.training if run else {}
        rows.append(
            [
                Link(name, path) if page_of.is_file() else name,
                f"failed: {failed[name]}" if name in failed else state,
                *(f"{scores[column]:.4f}" if column in scores else "-" for column in columns),
                f"{facts['score']:.4g}" if "score" in facts else "-",
                f"{facts['cpu_seconds']:.1f}" if facts else "-",
            ]
        )
    return Rows("All runs of the grid", ["run", "state", *columns, "label-free score", TIME], rows)


def _failed(folder: Path) -> dict[str, str]:
    """The errors of the runs that failed; none if failed.json is not what a grid writes."""
    with suppress(OSError, ValueError, RecursionError):
        found: Any = json.loads((folder / "failed.json").read_text())
        if not misfit(found, {str: {"error": str}}):
            return {name: facts["error"] for name, facts in found.items()}
    return {}
