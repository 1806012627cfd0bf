"""The table of several runs: rows, numbers, notes, and the formats in which it is written."""

from __future__ import annotations

import csv
import io
import math
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import scipy.stats

import sslx
from sslx.core.dotted import merge
from sslx.core.errors import ConfigError
from sslx.core.options import to_dict
from sslx.core.training.config import configure
from sslx.core.training.run import Run
from sslx.core.training.run_folder import RunFolder
from sslx.outputs.formats import comma_separated, latex, markdown, text
from sslx.outputs.rows import TIME, Cell, Row, Table
from sslx.outputs.tables import tables
from sslx.runs.session import open_run

Command = Callable[..., tuple[int, str, str]]
Make = Callable[..., Run]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A finished run of an evaluator `top`, with scores that we choose, in tmp_path / name."""

    def make(
        name: str, method: Any, score: float, floor: float = 0.1, samples: int = 100, k: Any = 15, **config: Any
    ) -> Run:
        def results(value: float) -> dict[str, Any]:
            result = {"scores": {"knn": value, "knn-2": value / 2}, "protocol": {}, "summary": f"k up to {k}"}
            return {"knn": {"options": {"use": "knn", "neighbours": k}, **result}, "style": {"skipped": "no factors"}}

        resolved = configure(merge({"method": method}, config))
        facts = {"data": {"samples": samples, "image_shape": [1, 8, 8]}}
        folder = RunFolder.create(tmp_path / name, name, to_dict(resolved), facts)
        folder.write("results.json", {"trained": results(score), "untrained": results(floor)})
        folder.write("training.json", {"seconds": 9.0, "cpu_seconds": 10 * score})
        return open_run(folder.path)

    return make


def names(runs: list[Run]) -> list[str]:
    return [row.name for table in tables(runs) for row in table.rows]


def test_runs_that_differ_only_in_the_seed_are_one_row_of_mean_and_standard_error(make: Make) -> None:
    values = [0.5, 0.6, 0.85]
    runs = [make(f"a{seed}", "vae", value, floor=value / 5, seed=seed) for seed, value in enumerate(values)]
    (table,) = tables([*runs, make("b", "simvae", 0.9)])
    vae, simvae, floor, _ = table.rows
    assert (vae.name, vae.n, simvae.name, simvae.n) == ("vae", 3, "simvae", 1)
    deviation = math.sqrt(sum((v - sum(values) / 3) ** 2 for v in values) / 2)
    assert vae.cells["knn"].mean == pytest.approx(sum(values) / 3)
    assert vae.cells["knn"].error == pytest.approx(deviation / math.sqrt(3))
    assert floor.name == "untrained encoder of vae" and floor.n == 3
    assert floor.cells["knn"].mean == pytest.approx(sum(values) / 15)
    assert vae.cells["cpu-s"].mean == pytest.approx(10 * statistics.mean(values))
    shown = text([table])
    assert re.search(r"vae +3 +0\.6500 ± 0\.1041 +0\.3250 ± 0\.0520", shown)
    assert re.search(r"simvae +1 +0\.9000 +0\.4500 +9\.0\n", shown)


def test_rows_come_as_given(make: Make) -> None:
    runs = [make(name, name, 0.5) for name in ("vae", "random", "simvae")]
    assert names(runs)[:3] == ["vae", "random", "simvae"]
    assert names(runs[::-1])[:3] == ["simvae", "random", "vae"]


def test_a_sweep_is_told_apart_by_the_options_that_differ_and_by_no_others(make: Make) -> None:
    runs = [
        make(f"{v}-{s}", {"use": "simvae", "prior": {"variance": v}}, v, seed=s) for v in (0.1, 0.2) for s in (0, 1)
    ]
    other = make("vae", {"use": "vae", "encoder": {"dim": 3}}, 0.3)
    assert names([*runs, other])[:3] == ["simvae (prior.variance=0.1)", "simvae (prior.variance=0.2)", "vae"]
    mixture = make("m", {"use": "simvae", "prior": "mixture"}, 0.3, train={"lr": 0.5})
    assert names([*runs[:2], mixture])[:2] == [
        "simvae (prior=shared-mean, prior.variance=0.1, train.lr=0.001)",
        "simvae (prior=mixture, prior.variance=0.15, train.lr=0.5)",
    ]


def test_the_same_run_repeated_is_no_other_seed(make: Make) -> None:
    assert names([make("a", "vae", 0.5), make("b", "vae", 0.5)]) == [
        "vae (a)",
        "vae (b)",
        "untrained encoder",
    ]


def test_datasets_are_not_mixed(make: Make) -> None:
    runs = [make("a", "vae", 0.5), make("b", "vae", 0.6, dataset="moons"), make("c", "simvae", 0.7)]
    moons = make("d", "vae", 0.8, dataset={"use": "moons", "noise": 0.2})
    found = tables([*runs, moons])
    assert [table.dataset for table in found] == ["digits", "moons (noise=0.05)", "moons (noise=0.2)"]
    assert [row.name for row in found[0].rows[:2]] == ["vae", "simvae"]
    assert [row.cells["knn"].mean for table in found[1:] for row in table.rows] == [0.6, 0.1, 0.8, 0.1]


def test_other_protocols_are_noted(make: Make) -> None:
    same = [make("a", "vae", 0.5), make("b", "simvae", 0.6)]
    assert not [note for note in tables(same)[0].notes if note.startswith("note")]
    (table,) = tables([*same, make("c", "simclr", 0.7, samples=50, k=3)])
    assert "note: the protocol differs in training images: 100 of vae, simvae; 50 of simclr" in table.notes
    assert "note: the protocol differs in knn.neighbours: 15 of vae, simvae; 3 of simclr" in table.notes
    assert "knn of simclr, the untrained encoder: k up to 3" in table.notes
    (none,) = tables([*same, make("d", "simclr", 0.7, k=[])])
    assert "note: the protocol differs in knn.neighbours: 15 of vae, simvae; [] of simclr" in none.notes
    assert "style: skipped, no factors" in table.notes


def test_protocols_that_differ_in_chosen_values_are_one_line_and_widths_are_noted(make: Make) -> None:
    """Nine runs with nine values of C say it once. Other differences, as in a width, stay lines of their own."""

    def noted(*facts: tuple[str, str, int]) -> list[str]:
        runs = [make(f"{len(facts)}-{i}", "vae", 0.5, subset=i + 1) for i in range(len(facts))]
        for run, (summary, of, width) in zip(runs, facts, strict=True):
            results = run.results
            for which in ("trained", "untrained"):
                results[which] = {"linear": {**results[which]["knn"], "summary": summary, "of": {of: width}}}
            run.folder.write("results.json", results)
        return [note for table in tables(runs) for note in table.notes]

    chosen = [f"features of 8 dimensions; on 100 images with C={c}, chosen" for c in ("20", "0.05", "1e+03", "20")]
    assert noted(*[(each, "features", 8) for each in chosen]) == [
        "linear: features of 8 dimensions; on 100 images with C=0.05 to 1e+03, chosen"
    ]
    assert noted(*[(each, "features", 8) for each in chosen[:1]]) == [f"linear: {chosen[0]}"]
    other = "features of 9 dimensions; on 100 images with C=20, chosen"
    first, second, note = noted((chosen[0], "features", 8), (other, "features", 9), (chosen[1], "features", 8))
    assert first.endswith("with C=0.05 to 20, chosen") and second.endswith(other)
    assert note == (
        "note: the representations differ in width, which alone can change a score: features of 8 dimensions and "
        "features of 9 dimensions"
    )


def test_columns_are_chosen_by_name_by_pattern_and_by_evaluator(make: Make) -> None:
    run = make("a", "vae", 0.5)
    results = run.results
    results["trained"]["geometry"] = {**results["trained"]["knn"], "scores": {"rankme": 3.0, "dead": 0.0}}
    run.folder.write("results.json", results)

    def columns(*wanted: str) -> list[str]:
        return list(tables([run], wanted)[0].columns)

    assert columns() == ["knn", "knn-2", "geometry.rankme", "geometry.dead", "cpu-s"]
    assert columns("geometry.dead", "knn") == ["geometry.dead", "knn"]
    assert columns("knn*", "geometry", "knn") == ["knn", "knn-2", "geometry.rankme"]
    assert all("style" not in note for note in tables([run], ["knn"])[0].notes)
    with pytest.raises(ConfigError, match=r"scores knm: no run has such a score \(did you mean 'knn'\?\)"):
        columns("knm")


def with_scores(run: Run, evaluator: str, use: str, **scores: float) -> Run:
    results = run.results
    results["trained"][evaluator] = {"options": {"use": use}, "scores": scores, "protocol": {}, "summary": "s"}
    run.folder.write("results.json", results)
    return open_run(run.path)


def test_rows_are_sorted_by_a_score_best_first_where_the_evaluator_says_what_is_best(make: Make) -> None:
    values = {
        "vae": (0.5, 0.3, 7.0),
        "simvae": (0.9, 0.1, 3.0),
        "simclr": (0.7, 0.2, math.nan),
        "byol": (0.6, 0.4, 5.0),
    }
    runs = [
        with_scores(
            with_scores(make(name, name, knn), "reconstruction", "reconstruction", reconstruction=error),
            "mine",
            "./code.py:That",  # which is not executed
            rank=rank,
        )
        for name, (knn, error, rank) in values.items()
    ]
    runs.append(make("vicreg", "vicreg", 0.65))
    for score, expected, said in (
        ("knn", ["simvae", "simclr", "vicreg", "byol", "vae"], "best"),
        ("knn-2", ["simvae", "simclr", "vicreg", "byol", "vae"], "best"),
        ("reconstruction", ["simvae", "simclr", "vae", "byol", "vicreg"], "best"),
        ("mine", ["vae", "byol", "simvae", "simclr", "vicreg"], "largest"),
        ("cpu-s", ["vae", "byol", "vicreg", "simclr", "simvae"], "best"),
    ):
        (table,) = tables(runs, sort_by=score)
        assert [row.name for row in table.rows][:5] == expected, score
        assert table.rows[5].name.startswith("untrained encoder")
        assert any(re.fullmatch(rf"note: sorted by (mine\.rank|{score}), {said} first", note) for note in table.notes)
    (table,) = sslx.compare(*runs, scores="knn", sort_by="knn")
    assert [row.name for row in table.rows][:2] == ["simvae", "simclr"] and table.columns == ["knn"]
    with pytest.raises(ConfigError, match=r"^sort-by knm: no run has such a score \(did you mean 'knn'\?\)$"):
        tables(runs, sort_by="knm")


def test_scores_are_printed_relative_to_a_row(make: Make, command: Command) -> None:
    runs = [make(f"s{seed}", "simvae", value, seed=seed) for seed, value in enumerate((0.6, 0.8))]
    runs += [make(f"v{seed}", "vae", value, seed=seed) for seed, value in enumerate((0.3, 0.6))]
    (table,) = tables([*runs, make("c", "simclr", 0.9)], relative_to="simvae")
    cells = {row.name: row.cells["knn"].mean for row in table.rows}
    assert cells["simvae"] == 0.7 and cells["vae"] == pytest.approx(-0.25) and cells["simclr"] == pytest.approx(0.2)
    assert cells["untrained encoder of simclr"] == pytest.approx(0.1 - 0.7)
    code, output, errors = command("compare", "s0", "s1", "v0", "v1", "c", "--relative-to", "simvae")
    assert code == 0, errors
    assert re.search(r"simvae +2 +0\.7000 ± 0\.1000 ", output)
    assert re.search(r"vae +2 +-0\.2500 ± 0\.0500 ", output), "seed by seed"
    assert re.search(r"simclr +1 +\+0\.2000 +\+0\.1000 +9\.0\n", output), "time is no difference"
    note = "\nnote: the other rows are differences from the scores of simvae\n"
    assert 0 < output.index("\nknn: ") < output.index(note), "how a score was obtained comes before what it shows"
    with pytest.raises(ConfigError, match=r"^relative-to simvea: the table of digits has no such row \(did you mean"):
        tables(runs, relative_to="simvea")
    (other,) = tables([*runs, make("d", "vae", 0.8, subset=50)], relative_to="d")  # the folder of a run
    assert [row.relative for row in other.rows[:3]] == [True, True, False]
    make("m", "vae", 0.1, dataset="moons")
    code, _, errors = command("compare", "c", "m", "--relative-to", "simclr")
    assert code == 2 and "relative-to simclr: the table of moons has no such row" in errors


def test_a_difference_is_said_to_be_chance_or_not(make: Make) -> None:
    """The quantiles of Student's t are from a table: 12.7062 for one degree of freedom, 4.3027 for two."""

    def note(vae: Sequence[float], first: int = 0) -> str:
        name = f"{vae[-1]}-{len(vae)}-{first}-"
        simvae = (0.6, 0.8, 0.7)[: len(vae)]
        runs = [make(f"s{name}{seed}", "simvae", value, seed=seed) for seed, value in enumerate(simvae)]
        runs += [make(f"v{name}{seed}", "vae", value, seed=seed) for seed, value in enumerate(vae, first)]
        (table,) = tables(runs, relative_to="simvae")
        (found,) = [note for note in table.notes if "interval" in note or "one seed" in note]
        return found

    interval = "95% confidence interval of the difference"
    half = 12.7062 * 0.05  # of -0.1 and -0.2
    between = f"{interval} {-0.15 - half:+.4f} to {-0.15 + half:+.4f}, 2 seeds, paired"
    assert note([0.5, 0.6]) == f"knn: the seeds show no difference between vae and simvae ({between})"
    half = 4.3027 * 0.1 / 3  # of -0.2, -0.3 and -0.2
    between = f"{interval} {-0.7 / 3 - half:+.4f} to {-0.7 / 3 + half:+.4f}, 3 seeds, paired"
    assert note([0.4, 0.5, 0.5]) == f"knn: vae is below simvae ({between})"
    welch = scipy.stats.ttest_ind([0.4, 0.5, 0.5], [0.6, 0.8, 0.7], equal_var=False).confidence_interval(0.95)
    between = f"{interval} {welch.low:+.4f} to {welch.high:+.4f}, 3 and 3 seeds"
    assert note([0.4, 0.5, 0.5], first=5) == f"knn: vae is below simvae ({between})"
    assert note([0.5, 0.6, 0.8], first=5).startswith("knn: the seeds show no difference between vae and simvae (")
    assert note([0.4]).startswith("knn: one seed cannot say whether vae differs from simvae by more than chance")


def test_a_score_that_some_runs_lack_says_how_many_have_it(make: Make) -> None:
    runs = [make(f"a{seed}", "vae", 0.5, seed=seed) for seed in (0, 1, 2)]
    results = runs[1].results
    results["trained"]["knn"] = {"options": {"use": "knn"}, "failed": "RuntimeError: broken"}
    runs[1].folder.write("results.json", results)
    assert "0.5000 ± 0.0000 (n=2)" in text(tables(runs))
    other = make("b", "simvae", 0.6)
    other.folder.write("results.json", {"trained": {}, "untrained": {}})
    assert re.search(r"simvae +1 +- +-", text(tables([*runs, other])))


def test_scores_that_are_not_a_number_are_shown_as_such(make: Make) -> None:
    runs = [make("a", "vae", math.nan, seed=0), make("b", "vae", 0.5, seed=1)]
    assert re.search(r"vae +2 +nan", text(tables(runs)))


def lines_of(written: str) -> list[str]:
    """The lines of the tables, without titles and notes."""
    lines = written.splitlines()
    return lines[1 : next(i for i, line in enumerate(lines) if ": k up to" in line)]


def test_a_table_that_is_too_wide_has_names_in_several_lines_is_turned_or_broken(make: Make) -> None:
    found = tables([make(name, name, 0.5) for name in ("vae", "simvae", "simclr", "random")])
    whole = text(found).splitlines()
    assert whole[1].split() == ["method", "knn", "knn-2", "cpu-s"] and whole[7].startswith("untrained encoder  ")
    folded = lines_of(text(found, 42))
    assert max(map(len, folded)) <= 42 and folded[0] == lines_of(text(found, 39))[0]
    assert [line.split() for line in folded[6:]] == [["untrained", "0.1000", "0.0500", "-"], ["encoder"]]
    scores = {f"s{i}": Cell(i, math.nan, 1) for i in range(9)}
    wide = Table(
        "digits", list(scores), [Row("vae", 1, scores), Row("untrained encoder of vae", 1, scores)], ["k up to"]
    )
    turned = text([wide], 44).splitlines()
    assert turned[1].split() == ["method", "vae", "untrained", "encoder", "of", "vae"] and len(turned) == 13
    assert text([wide], 40).splitlines()[1:3] == ["method       vae         untrained", " " * 20 + "encoder of vae"]
    narrow = text(found, 24)
    assert sum(line.startswith("method") for line in narrow.splitlines()) > 1 and max(map(len, lines_of(narrow))) <= 24
    for run in ("vae", "simvae", "simclr"):
        assert run in narrow
    assert narrow.count("0.5000") == "".join(whole).count("0.5000")


def test_scores_that_few_methods_have_are_in_a_table_of_their_own_if_one_is_too_wide() -> None:
    few, many = {f"few-{i}": Cell(0.25, math.nan, 1) for i in range(8)}, {"knn": Cell(0.5, math.nan, 1)}
    rows = [
        Row("vae", 1, many | few | {TIME: Cell(1.0, math.nan, 1)}),
        Row("simvae", 1, many | {TIME: Cell(2.0, 0, 1)}),
    ]
    rows += [Row("untrained encoder of vae", 1, many | few), Row("pixels", 1, many)]
    table = Table("digits", ["knn", *few, TIME], rows, [])
    assert text([table]).count("method") == 1 and "-" in text([table]).split()
    whole = text([table], 80).splitlines()
    assert whole[1].split() == ["method", "knn", "cpu-s"] and [line.split()[0] for line in whole[3:5]] == [
        "vae",
        "simvae",
    ]
    below = whole[whole.index("") + 1 :]
    assert below[0].split() == ["method", "vae", "untrained", "encoder", "of", "vae"] and len(below) == 2 + 8
    assert all(line.split()[1:] == ["0.2500", "0.2500"] for line in below[2:]) and max(map(len, whole)) <= 80


def special(make: Make) -> Any:
    (table,) = tables([make("a", "vae", 0.5)])
    row = attrs.evolve(table.rows[0], name=r"a_b & c|d % $e #f {g} ~h ^i \j <k>")
    return attrs.evolve(table, rows=[row], notes=["R² of a_b"])


def test_markdown_is_a_table_whatever_the_names(make: Make) -> None:
    lines = markdown([special(make)]).splitlines()
    assert lines[2].replace(" ", "") == "|method|knn|knn-2|cpu-s|"
    assert [cell[-1] for cell in lines[3].strip("|").split("|")] == ["-", ":", ":", ":"]  # numbers to the right
    cells = re.split(r"(?<!\\)\|", lines[4])
    assert len(cells) == 6 and [cell.strip() for cell in cells[2:5]] == ["0.5000", "0.2500", "5.0"]
    assert re.sub(r"\\(.)", r"\1", cells[1]).strip() == r"a_b & c|d % $e #f {g} ~h ^i \j <k>"
    assert lines[6] == r"- R² of a\_b"


def test_latex_escapes_what_is_special(make: Make) -> None:
    output = latex([special(make)])
    name = r"a\_b \& c|d \% \$e \#f \{g\} \textasciitilde{}h \^{}i \textbackslash{}j \ensuremath{<}k\ensuremath{>}"
    (row,) = (line.strip() for line in output.splitlines() if "0.5000" in line)
    assert [cell.strip() for cell in re.split(r"(?<!\\)&", row)] == [name, "0.5000", "0.2500", r"5.0 \\"]
    assert r"\begin{tabular}{lrrr}" in output and output.endswith("% R² of a_b\n")
    assert output.count("{") == output.count("}")
    runs = [make(f"s{seed}", "vae", seed / 4, seed=seed) for seed in (1, 2)]
    assert re.search(r"vae +& +2 & 0.3750 ± 0.1250 &", latex(tables(runs)))


def test_csv_has_everything_at_full_precision(make: Make) -> None:
    runs = [make(f"a{seed}", "vae", (seed + 1) / 3, seed=seed) for seed in (0, 1)]
    runs.append(make("moons", "vae", 0.25, dataset="moons"))
    rows = list(csv.DictReader(io.StringIO(comma_separated(tables(runs)))))
    assert [(row["dataset"], row["method"], row["n"]) for row in rows[::2]] == [
        ("digits", "vae", "2"),
        ("moons", "vae", "1"),
    ]
    assert float(rows[0]["knn"]) == statistics.mean([1 / 3, 2 / 3])
    assert float(rows[0]["knn se"]) == statistics.stdev([1 / 3, 2 / 3]) / math.sqrt(2)
    assert rows[2]["knn se"] == "" and rows[1]["cpu-s"] == ""


def test_the_command_writes_every_format(make: Make, command: Command, tmp_path: Path) -> None:
    make("a", "vae", 0.5)
    make("b", "vae", 0.7, seed=1)
    shown = {}
    for style in ("text", "markdown", "csv", "latex"):
        code, shown[style], errors = command("compare", "a", "b", "--format", style, "--scores", "knn")
        assert code == 0, errors
        assert command("compare", "a", "b", "--format", style, "--scores", "knn", "--to", f"{style}.txt")[:2] == (0, "")
        assert (tmp_path / f"{style}.txt").read_text() == shown[style]
        assert "0.6" in shown[style] and "knn-2" not in shown[style]
    assert len(set(shown.values())) == 4
    assert command("compare", "a", "b", "./a") == command("compare", "a", "b")  # each run counts once
    assert "knn: k up to 15" in command("compare", "a", "b", "--format", "csv")[2]
    assert command("compare", "a", "--to", "missing/x.md")[0] == 2
    assert command("compare", "a", "--format", "html")[0] == 2
    code, _, errors = command("compare", "a", "--scores", "nothing")
    assert code == 2 and "scores nothing: no run has such a score" in errors
