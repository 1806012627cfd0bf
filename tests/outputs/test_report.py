"""The page of a run or a grid: whole, small, readable for everyone, and safe whatever the names in it are."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL, TINY, digest, reseal
from PIL import Image
from safetensors.torch import load, save

import sslx
from sslx.core.data import Split
from sslx.core.dotted import merge
from sslx.core.errors import CheckpointError
from sslx.core.training.config import configure
from sslx.core.training.run import Launch, Run
from sslx.outputs import report
from sslx.outputs.report import Figure, Section, gallery, page, report as module
from sslx.outputs.report.page import blocks_of
from sslx.outputs.rows import Table
from sslx.outputs.tables import tables
from sslx.runs.grid import Grid

EVIL = "<script>alert(1)</script>"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Parsed(HTMLParser):
    """A page: its tags with their attributes, its text without scripts and styles, and what is wrong with it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.tags, self.open, self.problems = "", list[tuple[str, dict[str, str]]](), list[str](), []
        self.source = path.read_text()
        self.feed(self.source)
        self.close()
        self.problems += [f"<{tag}> is not closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes another tag, at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Runs with their pages: `digits` with scores during training, `points`, and a `grid` of three."""
    root = tmp_path_factory.mktemp("reports")

    def small(plugin: str, **options: Any) -> dict[str, Any]:
        return merge(TINY, {"method": {"use": plugin, **SMALL[plugin]}}, options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSLX_REPORT", "yes")
        during = {"evaluate": {"every": 1}}
        sslx.run(config=small("simvae", train=during), evaluators="knn,linear", out=root / "digits", device="cpu")
        points = small("gedi", dataset={"use": "moons", "samples": 400}, evaluators={"cluster": {}})
        sslx.run(config=points, out=root / "points", device="cpu")
        three = {
            "simvae-seed=0": small("simvae"), "simvae-seed=1": small("simvae", seed=1), "vae": small("vae"),
        }  # fmt: skip
        one_epoch = {"train": {"epochs": 1}}
        configs = {name: configure(config, one_epoch) for name, config in three.items()}
        grid = Grid.make(root / "grid", configs, Launch("cpu"))
        grid.create()
        patch.setattr(module, "write", lambda run: (run.path / "report.html").write_text(""))
        patch.setattr(report, "gather", lambda *arguments: None)
        assert grid.carry_out() == []
    yield root


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Run:
    """The run of digits, to be changed."""
    return Run.open(Path(shutil.copytree(folder / "digits", tmp_path / "digits")))


@pytest.fixture
def bare(copied: Run) -> Run:
    """The same without metrics: curves take most of the time."""
    (copied.path / "metrics.jsonl").write_text("")
    return copied


# --- content ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "points", "grid"])
def test_a_page_is_one_whole_small_file_that_loads_nothing(folder: Path, name: str) -> None:
    found = Parsed(folder / name / "report.html")
    assert found.problems == []
    assert len(found.source.encode()) <= 5e6
    addresses = [
        attrs[key] for _, attrs in found.tags for key in ("src", "href", "xlink:href", "srcset") if key in attrs
    ]
    assert all(each.startswith(("data:image/", "#")) or each.endswith("/report.html") for each in addresses)
    assert re.findall(r"url\((?!\"data:image/|#)", found.source) == []
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in found.tags}
    assert "default-src 'none'" in found.source and "://" not in re.sub(r' xmlns[:a-z]*="[^"]*"', "", found.source)


@pytest.mark.parametrize("name", ["digits", "points", "grid"])
def test_pictures_have_texts_and_parts_have_names(folder: Path, name: str) -> None:
    found = Parsed(folder / name / "report.html")
    pictures = [attrs for tag, attrs in found.tags if tag == "img" or attrs.get("role") in ("img", "application")]
    assert pictures and all(
        (attrs.get("alt") or attrs.get("aria-label", "")).strip() for attrs in pictures if attrs != {}
    )
    assert found.all("html") == [{"lang": "en"}] and len(found.all("h1")) == 1
    ids = [attrs["id"] for _, attrs in found.tags if attrs.get("id", "").startswith(("part-", "title-"))]
    assert len(ids) == len(set(ids)) and {attrs["aria-labelledby"] for attrs in found.all("section")} <= set(ids)
    assert {attrs["href"] for attrs in found.all("a") if attrs["href"][0] == "#"} == {
        f"#{i}" for i in ids if i[0] == "p"
    }


def test_the_page_of_a_run_shows_what_its_records_say(folder: Path) -> None:
    run, found = Run.open(folder / "digits"), Parsed(folder / "digits" / "report.html")
    (table,) = tables([run])
    assert "simvae on digits" in found.text and "100 training images of digits, 1 × 8 × 8" in found.text
    assert all(note in found.text for note in table.notes)
    knn, before = (run.results[which]["knn"]["scores"]["knn"] for which in ("trained", "untrained"))
    assert f"{knn:.4f}" in found.text and f"knn, untrained {before:.4f}" in found.text
    assert f"{run.training['score']:.4g}" in found.text
    assert all(word in found.text for word in ("reconstruction", "entropy", "held-out/knn", "Images that the method"))
    assert len(found.all("circle")) == 360 and {attrs["data-label"] for attrs in found.all("circle")} == {
        f"class {i}" for i in range(10)
    }
    assert len([attrs for attrs in found.all("span") if attrs.get("class") == "thumb"]) == 6 * 9 + 1
    assert "hidden = [" in found.text and str(run.folder.facts()["versions"]["torch"]) in found.text
    assert found.source.count('<details class="part">') == 2
    captions = [attrs["alt"] for attrs in found.all("img")]
    assert len(captions) == len([*run.path.glob("*.png")]) >= 5


def test_the_page_of_points_has_the_plane_and_known_minima(folder: Path) -> None:
    found = Parsed(folder / "points" / "report.html")
    assert "known minimum" in found.text and "Diagnosis: loss terms above their known minimum" in found.text
    assert "over the plane" in found.text and len(found.all("circle")) == 80
    assert "Nearest neighbours" not in found.text and not (folder / "points" / "report" / "thumbnails.png").exists()


def test_the_page_of_a_grid_has_sortable_tables_and_leads_to_its_runs(folder: Path) -> None:
    found, runs = (
        Parsed(folder / "grid" / "report.html"),
        [Run.open(folder / "grid" / f"simvae-seed={i}") for i in (0, 1)],
    )
    assert [attrs["href"] for attrs in found.all("a") if attrs["href"][0] != "#"] == [
        "simvae-seed%3D0/report.html", "simvae-seed%3D1/report.html", "vae/report.html",
    ]  # fmt: skip
    assert "3 runs of simvae and vae on digits, of which 3 are finished" in found.text
    mean = np.mean([run.results["trained"]["knn"]["scores"]["knn"] for run in runs])
    assert f"{mean:.4f} ±" in found.text and "loss" in found.text and "untrained encoder" in found.text
    assert len(found.all("button")) == len([attrs for attrs in found.all("th") if attrs.get("scope") == "col"]) > 8


def test_losses_of_different_methods_have_panels_of_their_own(folder: Path) -> None:
    shown = [attrs["aria-label"] for attrs in Parsed(folder / "grid" / "report.html").all("div") if "role" in attrs]
    assert [label.split(":")[0] for label in shown if label.startswith("loss over")] == [
        f"loss over the steps of training of {name}" for name in ("simvae", "vae")
    ]


def test_a_table_of_different_widths_says_so_at_its_top() -> None:
    notes = ["knn: k between 1 and 15", "note: the representations differ in width, which matters: 10 and 256"]
    lines = [each for each in blocks_of(Table("digits", [], [], notes)) if isinstance(each, str)]
    assert lines == ["The representations differ in width, which matters: 10 and 256."]
    assert not [each for each in blocks_of(Table("digits", [], [], notes[:1])) if isinstance(each, str)]


def test_a_page_is_made_again_from_the_files_alone(
    command: Callable[..., Any], copied: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "method", None)
    before = (copied.path / "report.html").read_bytes()
    assert command("report", "digits").code == 0 and (copied.path / "report.html").read_bytes() == before
    fewer = {"points": torch.randn(20, 5), "share": torch.rand(5), "neighbours": torch.zeros(1, 2, dtype=torch.int64)}
    (copied.path / "report" / "map.safetensors").write_bytes(save(fewer))  # which takes less time
    assert command("report", "digits", "--map", "tsne", "--to", "tsne.html").output == "tsne.html\n"
    assert "t-SNE of the first" in (copied.path.parent / "tsne.html").read_text()
    assert "exists" in command("report", "digits", "--to", "tsne.html").errors
    assert command("report", str(folder / "grid"), "--to", "grid.html").code == 0
    href = Parsed(copied.path.parent / "grid.html").all("a")[-1]["href"]
    assert (copied.path.parent / href).samefile(folder / "grid" / "vae" / "report.html")


def test_classes_have_the_names_of_their_folders(command: Callable[..., Any], copied: Run) -> None:
    file = copied.path / "report" / "map.safetensors"
    names = [f"<u>{name}" for name in ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")]
    file.write_bytes(save(load(file.read_bytes()), {"classes": json.dumps(names)}))
    assert command("report", "digits", "--to", "named.html").code == 0
    found = Parsed(copied.path.parent / "named.html")
    assert {attrs["data-label"] for attrs in found.all("circle")} == set(names)
    assert all(name in found.text for name in names) and not found.all("u")
    for wrong in ('["zero"]', '{"0": "zero"}', "zero"):
        file.write_bytes(save(load(file.read_bytes()), {"classes": wrong}))
        done = command("report", "digits", "--to", "wrong.html")
        assert done.code == 1 and "damaged" in done.errors and done.errors.count("\n") == 1


def test_a_page_that_cannot_be_written_is_one_line(command: Callable[..., Any], bare: Run) -> None:
    (bare.path / "report.html").unlink(missing_ok=True)
    (bare.path / "report.html").mkdir()
    code, _, errors = command("report", str(bare.path))
    assert code == 2 and f"{bare.path}/report.html: cannot be written" in errors and len(errors.splitlines()) == 1


def test_umap_needs_its_package(command: Callable[..., Any], bare: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    done = command("report", "digits", "--map", "umap")
    assert (done.code, done.errors) == (2, "sslx: --map umap: needs umap-learn: pip install 'sslx[report]'\n")


def test_an_unfinished_run_says_how_far_it_is(copied: Run) -> None:
    for name in ("results.json", "training.json", "report/map.safetensors"):
        (copied.path / name).unlink()
    report.write(copied)
    found = Parsed(copied.path / "report.html")
    assert "Not finished. At step 12 of 12." in found.text and ">Scores<" not in found.source and found.problems == []


def test_a_training_that_ended_early_says_for_how_long_it_was(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run("vae", "run", train={"cpu_seconds": 1e-6})
    report.write(run)
    assert "Trained for 0.167 of 2 epochs on 100 training images" in (run.path / "report.html").read_text()


def test_a_damaged_map_is_named(bare: Run) -> None:
    file = bare.path / "report" / "map.safetensors"
    for content in (
        b"",
        file.read_bytes()[:-1],
        save({"points": torch.zeros(3, 2), "neighbours": torch.tensor([[7]])}),
    ):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match="report: damaged"):
            report.write(bare)


# --- for everyone, whatever the names --------------------------------------------------------------------------------


def test_texts_of_files_are_shown_as_text(copied: Run) -> None:
    evil = copied.path.rename(copied.path.with_name(EVIL.replace("/", "")))
    run = Run.open(evil)
    for which in ("trained", "untrained"):
        reseal(evil / "results.json", lambda values, which=which: values[which]["knn"].update(summary=EVIL))  # type: ignore[misc]
    reseal(evil / "results.json", lambda values: values["trained"].update({EVIL: values["trained"]["knn"]}))
    reseal(evil / "training.json", lambda values: values.update(diagnosis=EVIL, score_by=EVIL))
    reseal(evil / "run.json", lambda values: values.update(command=[EVIL], machine={EVIL: EVIL}))
    record = {
        "step": 12,
        "epoch": 1,
        "loss": 1.0,
        EVIL: 2.0,
        "]]></svg>" + EVIL: 3.0,
        "scores": {f"test/knn{EVIL}": 1.0},
    }
    with open(evil / "metrics.jsonl", "a") as log:
        log.write(json.dumps(record) + "\n")
    Image.new("RGB", (8, 8)).save(evil / f"{EVIL.replace('/', '')}.png")
    report.write(run)
    found = Parsed(evil / "report.html")
    assert found.problems == [] and len(found.all("script")) == 1 and "alert" not in str(found.all("script"))
    assert found.source.lower().count("<script") == 1 and found.text.count(EVIL) >= 5
    page(
        EVIL,
        [Section(EVIL, [EVIL, report.Verdicts([EVIL]), report.Rows(EVIL, [EVIL], [[EVIL]])])],
        evil / "p.html",
        EVIL,
    )
    assert (evil / "p.html").read_text().count("<script>") == 1


def test_colours_are_readable_in_light_and_dark() -> None:
    style = (Path(report.__file__).parent / "templates" / "page.css").read_text()
    light, dark = (dict(re.findall(r"(--\w+): (#\w{6})", part)) for part in style.split("prefers-color-scheme: dark"))
    assert light.keys() == dark.keys() and len(light) == 19

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(a: str, b: str) -> float:
        low, high = sorted((luminance(a), luminance(b)))
        return (high + 0.05) / (low + 0.05)

    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for colours in (light, dark):
        for text in ("--text", "--muted", "--link", "--above", "--hardly", "--not"):
            assert min(contrast(colours[text], colours[ground]) for ground in ("--page", "--raised")) >= 4.5, text
        assert all(contrast(colours[f"--c{i}"], colours["--page"]) >= 3 for i in range(10))  # of points


def test_a_page_of_large_pictures_is_at_most_5_mb(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8))
    noise.save(file := io.BytesIO(), format="png")
    pictures = [Figure(file.getvalue(), f"noise {i}") for i in range(2)] * 8
    page("large", [Section("all", [*pictures, "x" * 6_000_000, "the end"])], tmp_path / "page.html")
    found = Parsed(tmp_path / "page.html")
    assert 3e6 < len(found.source) <= 5e6 and "which is left out" in found.text and "the end" in found.text
    assert len(found.all("img")) >= 8 and all("image/jpeg" in attrs["src"] for attrs in found.all("img"))


def test_what_is_not_a_picture_is_left_out(bare: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (bare.path / "samples.png").write_bytes(b"not a png")
    (bare.path / "linked.png").symlink_to(bare.path / "reconstructions.png")
    report.write(bare)
    found = Parsed(bare.path / "report.html")
    assert "samples.png: not shown" in capsys.readouterr().err
    assert (
        "linked" not in found.text
        and "Images that the method" not in found.text
        and "Reconstructions" not in found.text
    )


def test_nothing_is_written_through_a_link(bare: Run, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("theirs")
    (bare.path / "report.html").unlink()
    (bare.path / "report.html").symlink_to(tmp_path / "outside")
    report.write(bare)
    assert (tmp_path / "outside").read_text() == "theirs" and not (bare.path / "report.html").is_symlink()


# --- while it trains --------------------------------------------------------------------------------------------------


def test_a_training_is_the_same_with_and_without_a_page(
    tiny_run: Callable[..., Run], folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without = tiny_run("simvae", "without", train={"evaluate": {"every": 1}}, evaluators={"linear": {}})
    assert {"report.html", "report", "views.png"} & {path.name for path in without.path.iterdir()} == set()
    assert digest(without.path) == digest(folder / "digits")
    for name in ("metrics.jsonl", "results.json"):
        assert (without.path / name).read_bytes() == (folder / "digits" / name).read_bytes()


def test_the_page_is_refreshed_and_its_time_is_not_that_of_the_training(
    tiny_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLX_REPORT", "yes")
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    seen = list[int]()

    def write(run: Run) -> None:
        seen.append(len(run.folder.metrics()))
        end = time.process_time() + 1
        while time.process_time() < end:
            pass

    monkeypatch.setattr(module, "write", write)
    run = tiny_run("simvae", "run", train={"log_every": 6})
    assert seen == [1, 2]  # at a record, then not before fifty times as long has passed, and at the end
    assert run.training["cpu_seconds"] < 1


def test_a_page_that_fails_stops_nothing(
    tiny_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSLX_REPORT", "yes")
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    monkeypatch.setattr(module, "write", lambda run: 1 / 0)
    monkeypatch.setattr(gallery, "_reduced", lambda *arguments: 1 / 0)
    run = tiny_run("simvae", "run")
    assert run.folder.finished
    errors = capsys.readouterr().err
    assert errors.count("report.html: not written: ZeroDivisionError") == 2 and errors.count("report: not written") == 1


def test_random_states_are_left_alone(folder: Path) -> None:
    run = Run.open(folder / "digits")
    split = Split(torch.randint(0, 255, (30, 1, 8, 8), dtype=torch.uint8))
    before = torch.get_rng_state(), np.random.get_state()[1].tobytes(), random.getstate()  # type: ignore[union-attr]
    report.gather(run.method(), split, torch.device("cpu"), 0, folder, run.config.views)
    report.write(run, folder / "again.html")
    after = torch.get_rng_state(), np.random.get_state()[1].tobytes(), random.getstate()  # type: ignore[union-attr]
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]


# --- in a browser -----------------------------------------------------------------------------------------------------


class Browser:
    """Headless Chromium, driven by the WebDriver protocol of chromedriver."""

    def __init__(self, driver: str, binary: str, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.base = f"http://127.0.0.1:{port}/session"
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
                 "--disable-background-networking", "--disable-component-update", "--window-size=1100,1000",
                 "--force-prefers-reduced-motion", f"--user-data-dir={folder}"]  # fmt: skip
        wanted = {"goog:chromeOptions": {"binary": binary, "args": flags}, "goog:loggingPrefs": {"browser": "ALL"}}
        for _ in range(100):
            try:
                self.base += "/" + self.ask("", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
                break
            except urllib.error.URLError:
                time.sleep(0.1)

    def ask(self, path: str, body: Any = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def run(self, script: str) -> Any:
        return self.ask("/execute/sync", {"script": script, "args": []})

    def keys(self, *keys: str) -> None:
        presses = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.ask("/actions", {"actions": [{"type": "key", "id": "keys", "actions": presses}]})

    def point(self, x: float, y: float) -> None:
        move = {"type": "pointerMove", "duration": 0, "x": round(x), "y": round(y)}
        self.ask("/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": [move]}]})

    def emulate(self, command: str, **parameters: Any) -> Any:
        return self.ask("/goog/cdp/execute", {"cmd": command, "params": parameters})


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    driver = shutil.which("chromedriver")
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if driver is None or binary is None:
        pytest.skip("there is no chromium with chromedriver")
    found = Browser(driver, binary, tmp_path_factory.mktemp("browser"))
    yield found
    found.ask("", method="DELETE")
    found.process.terminate()
    found.process.wait()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["digits", "points", "grid"])
def test_a_browser_opens_it_without_complaints(browser: Browser, folder: Path, name: str, scheme: str) -> None:
    browser.emulate("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.ask("/url", {"url": (folder / name / "report.html").as_uri()})
    assert browser.ask("/se/log", {"type": "browser"}) == []
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    if kept := os.environ.get("SSLX_SCREENSHOTS"):
        shot = browser.emulate("Page.captureScreenshot", captureBeyondViewport=True)
        (Path(kept) / f"{name}-{scheme}.png").write_bytes(base64.b64decode(shot["data"]))


def test_a_click_on_a_head_sorts(browser: Browser, folder: Path) -> None:
    browser.ask("/url", {"url": (folder / "grid" / "report.html").as_uri()})
    column = """const table = document.querySelector("table"); return [...table.tBodies[0].rows].map(row =>
                [row.className, parseFloat(row.cells[2].textContent)])"""
    click = (
        "const head = document.querySelector('table').tHead.rows[0].cells[2]; head.querySelector('button').click(); "
    )
    for order, sign in (("descending", -1), ("ascending", 1)):
        assert browser.run(click + "return head.getAttribute('aria-sort')") == order
        rows = browser.run(column)
        values = [value for kind, value in rows if kind != "floor"]
        assert values == sorted(values, key=lambda value: sign * value) and len(values) == 2
        assert [kind for kind, _ in rows] == sorted(kind for kind, _ in rows)  # the floors are below
    assert browser.run("return document.querySelectorAll('[aria-sort]').length") == 1


def test_pointer_and_keys_show_an_image_of_the_map(browser: Browser, folder: Path) -> None:
    browser.ask("/url", {"url": (folder / "digits" / "report.html").as_uri()})
    x, y, label = browser.run(
        """const dot = document.querySelector("circle"); dot.scrollIntoView({block: "center"});
        const box = dot.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2, dot.dataset.label]"""
    )
    state = """const tip = document.querySelector(".tip"), thumb = tip.querySelector(".thumb");
    return [tip.hidden, tip.querySelector("b").textContent, getComputedStyle(thumb).backgroundImage.slice(0, 20),
            document.querySelectorAll(".chosen").length, document.querySelector(".said").textContent]"""
    assert browser.run(state)[0]
    browser.point(x, y)
    assert browser.run(state) == [False, label, 'url("data:image/png;', 1, label]
    browser.point(1, 1)
    assert browser.run(state)[0]
    browser.run("document.querySelector('.map svg').focus()")
    browser.keys("\ue014")  # the arrow to the right
    first = browser.run("return document.querySelector('.chosen').cx.baseVal.value")
    browser.keys("\ue014")
    assert browser.run("return document.querySelector('.chosen').cx.baseVal.value") > first
    assert not browser.run(state)[0]


def test_scripts_of_others_do_not_run(browser: Browser, tmp_path: Path) -> None:
    page("safe", [Section("plots", [Figure("<svg><script>document.title = 'broken'</script></svg>", "a plot")])],
         tmp_path / "page.html")  # fmt: skip
    browser.ask("/url", {"url": (tmp_path / "page.html").as_uri()})
    assert browser.run("return document.title") == "safe"
    (complaint,) = browser.ask("/se/log", {"type": "browser"})
    assert "Content Security Policy" in complaint["message"]
