"""Plots: the numbers beside them are those of the runs, equal data gives equal bytes, and pixels are in their places."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import statistics
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sslx.core import signals
from sslx.core.data import Split, pixels
from sslx.core.dotted import merge
from sslx.core.errors import ConfigError
from sslx.core.interfaces import Method
from sslx.core.options import to_dict
from sslx.core.randomness import Use, permutation
from sslx.core.training.config import configure
from sslx.core.training.run import Run
from sslx.core.training.run_folder import RunFolder
from sslx.outputs.plots import (
    Pair,
    Plot,
    Point,
    Subject,
    axis,
    curves,
    heat,
    images,
    pairs,
    planes,
    points,
    scatter,
    similarity,
)  # fmt: skip
from sslx.outputs.plots.numbers import _minimum, loss_and_terms
from sslx.runs.drawn import subjects
from sslx.runs.grid import opened

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "plots.md").read_text()
COMMANDS = re.findall(r"^sslx (.*)$", PAGE, flags=re.MULTILINE)


class Folder:
    """A folder in which commands have been run, with what each of them said."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, *words: str) -> int:
        from sslx.cli import main

        with pytest.raises(SystemExit) as done:
            main(words)
        assert isinstance(done.value.code, int)
        return done.value.code

    def runs(self, *names: str) -> list[Run]:
        return opened([self.path / "runs" / name for name in names])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """The runs of docs/howto/plots.md, which are small, and all plots of the page."""
    path = tmp_path_factory.mktemp("plots")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setattr(signals, "install", lambda: None)
        found = Folder(path)
        for line in COMMANDS:
            words = [word.strip('"') for word in line.split()]
            if words[0] == "run":
                points = "moons" in words
                words += ["--epochs", "2", "--subset", "128", "--set", "train.log_every=1"]
                words += ["-e", "knn" if points else "knn,linear,posterior", "--batch-size", "32" if points else "64"]
                words += ["--set", "energy.steps=2"] * points
            assert found(*words) == 0, line
        yield found


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_curves_show_the_mean_and_the_standard_error_of_what_was_recorded(folder: Folder) -> None:
    logs = [records(folder.path / "runs" / "two" / f"vae-seed={seed}") for seed in (0, 1)]
    rows = [row for row in table(folder.path / "curves.csv") if row["series"] == "vae"]
    assert {row["record"] for row in rows} == {"loss", "reconstruction", "entropy", "prior"}
    for row in rows:
        a, b = (next(r[row["record"]] for r in log if r["step"] == int(row["step"])) for log in logs)
        assert float(row["value"]) == pytest.approx((a + b) / 2) and row["runs"] == "2"
        assert float(row["error"]) == pytest.approx(abs(a - b) / 2)  # sqrt(((a-b)/2)^2 * 2) / sqrt(2)
    assert {row["series"] for row in table(folder.path / "curves.csv")} == {"simclr", "vae"}


def test_a_term_that_alone_is_the_loss_is_not_drawn_again(folder: Folder) -> None:
    logs = [{"loss": 2.0, "contrast": 2.0, "lr": 0.1}, {"loss": 1.0, "contrast": 1.0, "test/knn": 0.5}]
    assert loss_and_terms(logs) == ["loss", "test/knn"]
    assert loss_and_terms([*logs, {"loss": 3.0, "contrast": 1.0, "other": 2.0}]) == [
        "loss",
        "contrast",
        "test/knn",
        "other",
    ]
    assert curves(folder.runs("two/simclr-seed=0")).data["record"][-1] == "loss"
    known = {"loss": 2.0, "reconstruction": 2.0, "reconstruction_excess": 1.5}
    assert _minimum("loss", known) == _minimum("reconstruction", known) == 0.5
    assert math.isnan(_minimum("loss", {**known, "loss": 3.0, "prior": 1.0}))


def test_known_minima_are_those_from_which_distances_were_recorded(folder: Folder) -> None:
    rows = table(folder.path / "loss.csv")
    log = {record["step"]: record for record in records(folder.path / "runs" / "moons")}
    assert {row["record"] for row in rows} == {"loss", "prior", "prior_excess", "excess"}
    for row in rows:
        record = log[int(row["step"])]
        assert float(row["value"]) == record[row["record"]] and row["error"] == ""
        if row["record"] == "prior":  # the entropy of two clusters
            assert float(row["minimum"]) == pytest.approx(math.log(2), abs=1e-5)
        else:
            assert row["minimum"] == ("" if row["record"] == "loss" else "0.0")
    (run,) = folder.runs("moons")
    without = curves([run], ["prior"], minima=False)
    assert all(map(math.isnan, without.data["minimum"]))
    assert len(without.figure.axes[0].lines) == 1 and len(curves([run], ["prior"]).figure.axes[0].lines) == 2


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Run]:
    """A finished run with scores that we choose."""

    def make(name: str, method: Any, score: float, **config: Any) -> Run:
        resolved = configure(merge({"method": method}, config))
        facts = {"data": {"samples": 100, "image_shape": [1, 8, 8]}}
        folder = RunFolder.create(tmp_path / name, name, to_dict(resolved), facts)
        result = {"options": {"use": "knn"}, "scores": {"knn": score, "knn-2": score / 2}, "summary": "k"}
        folder.write("results.json", {"trained": {"knn": result}, "untrained": {}})
        folder.write("training.json", {"seconds": 9.0, "cpu_seconds": 10 * score})
        return Run.open(folder.path)

    return make


@pytest.fixture
def sweep(make: Callable[..., Run]) -> list[Run]:
    return [
        make(f"{v}-{d}-{s}", {"use": "simvae", "prior": {"variance": v}, "encoder": {"dim": d}}, v + d / 100, seed=s)
        for v in (0.2, 0.1)
        for d in (4, 8)
        for s in (0, 1)
    ]


def test_scores_are_placed_by_options_and_averaged_over_seeds(sweep: list[Run], make: Callable[..., Run]) -> None:
    other = make("vae", "vae", 0.7)
    found = points(
        [*sweep, make("3", {"use": "simvae", "prior": {"variance": 0.1}, "encoder": {"dim": 4}}, 0.5, seed=7), other],
        "prior.variance",
        ["knn"],
    )
    assert [(p.series, p.x) for p in found] == [
        (f"simvae (encoder.dim={d})", v) for v in (0.2, 0.1) for d in (4, 8)
    ]  # the vae has no such option
    values = [0.14, 0.14, 0.5]
    of_three = next(p for p in found if p.x == 0.1 and "dim=4" in p.series)
    assert of_three.value == pytest.approx(sum(values) / 3)
    assert of_three.error == pytest.approx(statistics.stdev(values) / math.sqrt(3))
    by_method = points([*sweep[:1], other], "method", ["knn", "cpu-s"])
    assert [(p.series, p.x, p.panel, p.value) for p in by_method] == [
        ("", "simvae", "knn", pytest.approx(0.24)), ("", "simvae", "cpu-s", pytest.approx(2.4)),
        ("", "vae", "knn", 0.7), ("", "vae", "cpu-s", 7.0),
    ]  # fmt: skip
    (pair,) = pairs([other], "cpu-s", "knn-2")
    assert (pair.name, pair.x, pair.y) == ("vae", 7.0, 0.35)


def test_an_axis_has_lines_with_errors_and_hollow_markers_for_printed_values() -> None:
    rows = [Point("a", 2, 0.5, 0.1, printed=0.6), Point("a", 1, 0.4, 0.05), Point("b", 1, math.nan, printed=0.3)]
    plot = axis(rows, "x", "y")
    assert plot.data["value"][:2] == [0.5, 0.4] and plot.data["printed"][2] == 0.3
    drawn = [(line.get_xdata(), line.get_ydata(), line.get_markerfacecolor()) for line in plot.figure.axes[0].lines]
    drawn = [(list(x), list(y), face == "none") for x, y, face in drawn if len(x) and len(y)]
    assert ([1, 2], [0.4, 0.5], False) in drawn and ([2], [0.6], True) in drawn and ([1], [0.3], True) in drawn
    (legend,) = plot.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "printed in the paper"]
    mixed = axis([Point("a", "none", 1), Point("a", 3, 2), Point("b", 3, 4)], "x", "y").figure.axes[0]
    assert [label.get_text() for label in mixed.get_xticklabels()] == ["none", "3"]


def test_cells_of_a_matrix_have_the_value_its_error_and_the_printed_value(sweep: list[Run]) -> None:
    found = points(sweep, "prior.variance", ["knn"], "encoder.dim")
    found[0] = attrs.evolve(found[0], printed=0.25)
    plot = heat(found, "prior.variance", "encoder.dim", "knn")
    panel = plot.figure.axes[0]
    texts = {text.get_position(): text.get_text() for text in panel.texts}
    assert texts == {
        (1, 0): "0.240 (0.250)\n±0.000",
        (1, 1): "0.280\n±0.000",
        (0, 0): "0.140\n±0.000",
        (0, 1): "0.180\n±0.000",
    }
    assert panel.images[0].get_array().tolist() == pytest.approx(np.array([[0.14, 0.24], [0.18, 0.28]]))
    assert [each.get_text() for each in panel.get_xticklabels()] == ["0.1", "0.2"]


# --- files ------------------------------------------------------------------------------------------------------------


def test_equal_data_gives_equal_bytes_whatever_matplotlib_was_told(tmp_path: Path) -> None:
    import matplotlib

    def drawn(name: str) -> list[bytes]:
        plot = axis([Point("a", 1, 0.5, 0.1), Point("b$_", "c", 0.4)], "x", "y")
        plot.save(*(files := [tmp_path / f"{name}{ending}" for ending in (".png", ".svg", ".pdf")]))
        return [path.read_bytes() for path in (*files, tmp_path / f"{name}.csv")]

    first = drawn("first")
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 20}):
        assert drawn("second") == first
        assert matplotlib.rcParams["lines.linewidth"] == 9
    assert first[0][:4] == b"\x89PNG" and first[2][:4] == b"%PDF"
    assert first[3].decode() == "panel,series,x,value,error,printed\n,a,1,0.5,0.1,\n,b$_,c,0.4,,\n"
    with pytest.raises(ConfigError, match=r"a.jpg: expected a name that ends in .png, .svg, .pdf"):
        scatter([Pair("a", 1, 1, 1, 1)], "x", "y").save(tmp_path / "a.jpg")


def test_the_svg_of_a_page_is_xml_in_the_colour_of_the_page(folder: Folder) -> None:
    plot = curves(folder.runs("two"), ["loss"])
    text = attrs.evolve(plot, alt="a < b & c").svg()
    root = ET.fromstring(text)
    assert text.startswith("<svg ") and root.tag.endswith("svg") and root.get("role") == "img"
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title is not None and title.text == "a < b & c" and root[0] is title
    assert "currentColor" in text and "#010203" not in text and "<style" not in text
    assert 'fill: #ffffff"' not in text  # no background
    assert re.findall(r">(simclr|vae|loss|step)</text>", text) == ["step", "loss", "simclr", "vae"]  # text, no paths


# --- images -----------------------------------------------------------------------------------------------------------


def cells(plot: Plot, rows: int, columns: int) -> Tensor:
    """The grey of the middle of 8x8 pixels of each image of a grid, as they are in the .png, (rows, columns, 8, 8)."""
    with Image.open(io.BytesIO(plot.content(".png"))) as picture:
        shown = np.array(picture.convert("L"))
    panel, dpi = plot.figure.axes[0], plot.figure.dpi
    side, gap = 64, 4  # of digits: 8 pixels, eight times as large

    def at(place: float, other: bool) -> int:
        x, y = panel.transData.transform((place, place)) * 200 / dpi
        return int(shown.shape[0] - y if other else x)

    found = torch.empty(rows, columns, 8, 8)
    for i, j, a, b in np.ndindex(rows, columns, 8, 8):
        found[i, j, a, b] = shown[at(i * (side + gap) + a * 8 + 3.5, True), at(j * (side + gap) + b * 8 + 3.5, False)]
    return found / 255


def test_reconstructions_are_below_the_same_test_images(folder: Folder) -> None:
    found = subjects(folder.runs("two/vae-seed=1", "half", "two/simclr-seed=0"))
    assert [each.name for each in found] == ["vae (beta=1.0)", "vae (beta=0.5)", "simclr"]
    plot = images(found, "reconstructions", 5)
    x = pixels(found[0].test.images[permutation(len(found[0].test), Use.EVALUATION, found[0].seed)[:5]])
    with torch.no_grad():
        expected = [x, *(each.method.reconstruct(x) for each in found[:2])]  # type: ignore[attr-defined]
    assert (cells(plot, 3, 5) - torch.stack(expected)[:, :, 0].clamp(0, 1)).abs().max() < 0.01
    assert plot.data["row"] == [0] * 5 + [1] * 5 + [2] * 5 and plot.data["method"][5] == found[0].name
    with pytest.raises(ConfigError, match="nothing to plot, of simclr: it reconstructs no images"):
        images(found[2:], "reconstructions")


def test_views_are_those_of_the_first_epoch(folder: Folder) -> None:
    (subject,) = subjects(folder.runs("two/simclr-seed=1"))
    index = permutation(128, Use.ORDER, 1, 0)[:3]
    views = folder.runs("two/simclr-seed=1")[0].config.views(subject.train.images[index], index, seed=1, epoch=0)
    plot = images([subject], "views", 3)
    expected = torch.cat([views.original[:, None], views.x], dim=1)[:, :, 0].clamp(0, 1)
    assert (cells(plot, 3, 3) - expected).abs().max() < 0.01
    assert plot.data["shown"][:2] == [f"{what} of training image {int(index[0])}" for what in ("image", "view 1")]


class Flat(Method):
    """Encodes an image to its brightness, and decodes that again. Draws images that are all white."""

    def represent(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(dim=(1, 2, 3))[:, None], torch.ones(len(x), 1)], dim=1)

    def representations(self) -> Any:
        return {"latent": self.represent}

    def decode(self, z: Tensor) -> Tensor:
        return z[:, :1, None, None].expand(-1, 1, 8, 8)

    def sample(self, n: int) -> Tensor:
        return torch.ones(n, 1, 8, 8)


def test_samples_of_a_class_are_in_its_column() -> None:
    labels = torch.arange(40) % 4
    grey = (60 * labels).to(torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8).contiguous()
    split = Split(grey, labels)
    subject = Subject("flat", nn.Module.eval(Flat()), split, split, configure({"method": "vae"}).views)
    shown = cells(images([subject], "conditional"), 4, 4)
    assert (shown - (60 / 255 * torch.arange(4))[None, :, None, None]).abs().max() < 0.03  # the deviation is 0.001
    assert cells(images([subject], "samples", 2), 4, 2).min() == 1
    with pytest.raises(ConfigError, match="b: has other test images than flat"):
        images([subject, attrs.evolve(subject, name="b", test=split.take(torch.arange(20)))], "reconstructions")
    with pytest.raises(ConfigError, match="flat: planes are plots of points"):
        planes([subject])


def test_divergences_are_those_of_the_evaluator(folder: Folder) -> None:
    (run,) = folder.runs("half")
    protocol = run.results["trained"]["posterior"]["protocol"]
    rows = table(folder.path / "posterior.csv")
    kl = {int(row["dimension"]): float(row["kl"]) for row in rows}
    gone = {int(row["dimension"]): row["collapsed"] for row in rows}
    assert [kl[d] for d in range(len(kl))] == pytest.approx(protocol["kl"], rel=1e-4)
    assert [d for d in sorted(kl) if gone[d] == "True"] == protocol["collapsed"]
    assert [float(row["kl"]) for row in rows] == sorted(kl.values(), reverse=True)


def test_similarities_are_cosines_of_representations(folder: Folder) -> None:
    found = subjects(folder.runs("two"))
    plot = similarity(found[:1])
    data, images_of = plot.data, found[0].test.images
    with torch.no_grad():
        z = found[0].method.represent(pixels(images_of)).double()
    for row in range(0, len(data["similarity"]), 701):
        a, b = z[data["image"][row]], z[data["other_image"][row]]
        assert data["similarity"][row] == pytest.approx(float(a @ b / (a.norm() * b.norm())), abs=1e-5)
        assert data["class"][row] == int(found[0].test.labels[data["image"][row]])
    assert len(data["similarity"]) == 80**2 and data["class"][::640] == list(range(10))


def test_a_map_of_the_plane_is_what_the_method_says_of_each_point(folder: Folder) -> None:
    rows = table(folder.path / "planes.csv")
    (subject,) = subjects(folder.runs("moons"))
    method: Any = subject.method
    of_map = [row for row in rows if row["what"] == "map"][::997]
    x = torch.tensor([[float(row["x"]), float(row["y"])] for row in of_map])[:, :, None, None]
    with torch.no_grad():
        log_density, p = method.log_density(x), method.cluster(x).exp()
    assert [float(row["log_density"]) for row in of_map] == pytest.approx(log_density.tolist(), rel=0.01, abs=0.01)
    sure = p.max(dim=1).values > 0.51
    said = torch.tensor([float(row["cluster"]) for row in of_map])
    assert sure.sum() > 10 and (said == p.argmax(dim=1))[sure].all()
    seen = [(float(row["x"]), float(row["y"])) for row in rows if row["what"] == "test point"]
    assert np.array(seen) == pytest.approx(subject.test.images[:1000, :, 0, 0].numpy(), rel=1e-4)
    assert sum(row["what"] == "sample" for row in rows) == 250


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_page_has_every_kind_and_every_command_writes_a_plot_and_its_numbers(folder: Folder) -> None:
    from sslx.cli.plot import _KINDS

    assert {line.split()[1] for line in COMMANDS if line.startswith("plot")} == set(_KINDS)
    assert all(f"`{kind}" in PAGE for kind in _KINDS)
    for name in (*(f"{kind}.png" for kind in _KINDS), "loss.png", "loss.pdf", "conditional.svg"):
        assert (folder.path / name).stat().st_size > 1000
    assert all((folder.path / f"{kind}.csv").stat().st_size for kind in (*_KINDS, "loss", "conditional"))
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    exec(compile(program, "plots.md", "exec"), {})
    assert (folder.path / "samples.pdf").exists() and (folder.path / "python.csv").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("curve runs/two", "curve: is not a kind of plots (did you mean 'curves'?)"),
        ("curves runs/two --to x.png --record los", "record los: no run has such a record (did you mean 'loss'?)"),
        ("curves runs/two", "--out: curves.png exists, and nothing is overwritten"),
        ("curves runs/two --to curves.svg", "--out: curves.csv exists, and nothing is overwritten"),
        ("curves runs/two --to x.pgn", "x.pgn: expected a name that ends in .png, .svg, .pdf (did you mean '.png'?)"),
        ("curves runs/two --x beta", "--x: curves does not have this option; it is one of axis, heat, scatter"),
        ("axis runs/two", "axis: expected --x and --score"),
        ("axis runs/two --to x.png --x bta --score knn", "x bta: no run has such an option (did you mean 'beta'?)"),
        ("axis runs/two --to x.png --x beta --score kn", "scores kn: no run has such a score (did you mean 'knn'?)"),
        ("images runs/two --of sample", "--of sample: is not a kind of images (did you mean 'samples'?)"),
        ("images runs/moons --to x.png", "gedi: is trained on points, which `planes` shows, not on images"),
        ("planes nowhere --to x.png", "nowhere: no run here (no config.toml)"),
    ],
)
def test_wrong_input_is_one_line(line: str, said: str, folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert folder("plot", *line.split()) == 2
    assert capsys.readouterr().err.splitlines() == [f"sslx: {said}"]
    assert not (folder.path / "x.png").exists()
