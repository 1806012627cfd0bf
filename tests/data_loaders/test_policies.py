"""Each paper's views are registered, can be made, and are as the paper has them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sslx.api import Views
from sslx.core.interfaces import ViewPolicy
from sslx.core.options import make, options_of, to_dict
from sslx.data_loaders.views.papers import DINO
from sslx.data_loaders.views.standard import Standard
from sslx.plugins.registry import registry
from sslx.ssl_methods.parts.sgld import SGLD

NAMES = ("simvae-grey", "simvae-colour", "gedi", "gedi-digits", "aasae", "simclr", "simclr-cifar", "byol", "dino")


def built(name: str, **options: Any) -> Any:
    return make(ViewPolicy, {"use": name, **options}, "views")


def views_of(policy: ViewPolicy) -> Views:
    images = torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    return policy(images, torch.arange(4), seed=0, epoch=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_views_of_each_paper_are_there(name: str) -> None:
    assert registry().find("views", name).record.paper
    policy = built(name)
    assert (policy.pad or policy.crop != (1, 1)) and views_of(policy).x.shape == (4, policy.count, 3, 32, 32)
    rebuilt = built(**{("name" if key == "use" else key): value for key, value in to_dict(policy).items()})
    assert to_dict(rebuilt) == to_dict(policy)


def test_a_policy_differs_from_the_standard_in_its_defaults_alone() -> None:
    standard, byol = options_of(Standard), options_of(type(built("byol")))
    assert byol.keys() == standard.keys()
    assert all(byol[name].help == standard[name].help and byol[name].limits == standard[name].limits for name in byol)
    assert built("byol").blur == (1.0, 0.1) and built("byol").solarise == (0.0, 0.2) and Standard().blur == 0
    assert built("byol", hflip=0.0).hflip == 0
    assert built("dino").solarise == (0.0, 0.2) and built("dino").crop == (0.4, 1.0)


def test_the_noise_of_gedi_is_that_of_jem_on_its_scale_of_pixels() -> None:
    """0.03 is added to 2x - 1, so that the view on this scale has that noise (GEDI, Table 9)."""
    grey = torch.full((100, 3, 32, 32), 128).byte()
    for name in ("gedi", "gedi-digits"):
        views = built(name, jitter=0.0, grey=0.0)(grey, torch.arange(100), seed=0, epoch=0)
        z = (2 * views.x - 1) - (2 * views.original[:, None] - 1)
        assert float(z.std()) == pytest.approx(0.03, rel=0.01)
    assert SGLD().noise * 2 == pytest.approx(0.01) and SGLD().step_size * 4 == pytest.approx(1)  # as the sampler's


FIVE = """
import torch
from sslx.api import Dataset, Split

class Five(Dataset):
    \"\"\"Images of five channels; the class is the channel that is brighter.\"\"\"

    def load(self, folder, offline):
        y = torch.arange(120) % 5
        x = torch.randint(100, (120, 5, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        x[torch.arange(120), y] += 100
        return (Split(x, y),) * 2
"""


def test_images_of_other_channels_have_views_without_colours(command: Any, tmp_path: Path) -> None:
    """What acts on each channel alone is as for any image; what mixes three colours is refused before training."""
    (tmp_path / "five.py").write_text(FIVE)
    run = [
        "run",
        "-p",
        "simclr",
        "-d",
        "./five.py:Five",
        "--epochs",
        "1",
        "-e",
        "knn",
        "--device",
        "cpu",
        "--out",
        "run",
    ]
    code, _, errors = command(*run, "--set", "views.hue=0.1", "--views", "simclr")
    assert code == 2 and not (tmp_path / "run").exists()
    assert errors.endswith("views.saturation, views.hue, views.grey: expected images of 1 or 3 channels, got 5\n")
    kept = ["crop=0.5,1", "hflip=0.5", "rotation=20", "brightness=0.4", "contrast=0.4", "blur=0.5", "solarise=0.1"]
    code, out, errors = command(*run, *(word for each in kept for word in ("--set", f"views.{each}")))
    assert code == 0 and "simclr " in out, errors


def test_local_views_are_further_smaller_views() -> None:
    local = {"use": "standard", "count": 3, "size": 12, "crop": (0.05, 0.4), "hflip": 0.5}
    views = views_of(built("standard", crop=(0.4, 1.0), local=local))
    assert views.x.shape == (4, 2, 3, 32, 32)
    assert views.local is not None and views.local.shape == (4, 3, 3, 12, 12)
    alone = views_of(Standard(count=2, crop=(0.4, 1.0)))
    assert alone.local is None and torch.equal(alone.x, views.x)
    torch_made = views_of(built("standard", crop=(0.4, 1.0), backend="torch", local=local | {"backend": "torch"}))
    torch.testing.assert_close(torch_made.local, views.local, atol=1e-5, rtol=0)
    # They are numbered after the others, so no local view repeats the numbers of a large one.
    both = views_of(Standard(count=2, hflip=0.5, local=Standard(count=2, hflip=0.5)))
    assert both.local is not None and not torch.equal(both.x, both.local)
    assert DINO().local is not None and DINO().local.count == 8


def test_views_can_be_looked_at(sslx_command: Any, tmp_path: Path) -> None:
    done = sslx_command("data", "preview", "digits", "--policy", "simvae-grey", "--set", "count=3", "--out", "v.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "v.png"
    assert (tmp_path / "v.png").read_bytes().startswith(b"\x89PNG")
    wrong = sslx_command("data", "preview", "digits", "--policy", "simvae-gray", "--set", "count=3")
    assert wrong.returncode == 2 and "simvae-grey" in wrong.stderr


def test_a_picture_takes_a_free_name(command: Any, tmp_path: Path) -> None:
    for name in ("preview.png", "preview-1.png"):
        code, out, errors = command("data", "preview", "digits", "--images", "1", "--set", "count=1")
        assert code == 0 and out.strip() == name, errors
    assert (tmp_path / "preview.png").is_file() and (tmp_path / "preview-1.png").is_file()
    code, out, errors = command("data", "preview", "digits", "--images", "1", "--out", "new/folder/v.jpg")
    assert code == 0 and Image.open(tmp_path / "new" / "folder" / "v.jpg").format == "JPEG", errors


def test_set_is_for_the_policy_and_by_name_for_the_dataset(command: Any, tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / "mixed").mkdir(exist_ok=True)
        Image.new("RGB", (10 + i, 20), (50 * i, 0, 0)).save(tmp_path / "mixed" / f"{i}.png")
    (tmp_path / "mixed" / "none.png").write_text("no image")
    preview = ("data", "preview", "folder:mixed", "--images", "2", "--set")
    code, _, errors = command(*preview, "dataset.size=16")
    assert code == 2 and "none.png (cannot identify image file)" in errors and "dataset.bad_images=skip" in errors
    words = ("dataset.bad_images=skip", "--set", "dataset.size=16", "--set")
    widths = []
    for name, setting in (("one", "views.count=1"), ("same", "count=1"), ("four", "count=4")):
        code, _, errors = command(*preview, *words, setting, "--out", f"{name}.png")
        assert code == 0, errors
        widths.append(Image.open(tmp_path / f"{name}.png").width)
    assert widths == [200, 200, 500]  # the image and its views, a hundred pixels each
    for setting, message in (("dataset.sise=16", "did you mean 'size'"), ("views.cont=2", "did you mean 'count'")):
        code, _, errors = command(*preview, *words, setting)
        assert code == 2 and message in errors and errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["moons"], "expected pictures; these have one pixel"),
        (["digits", "--out", "x.txt"], "--out: expected a name that ends in .png, "),
        (["digits", "--out", "x.json"], "--out: expected a name that ends in .png, "),
        (["digits", "--out", "folder"], "'folder' is a directory"),
        (["digits", "--out", "old.png"], "--out: old.png exists, and nothing is overwritten"),
        (["digits", "--out", "old.png/v.png"], "old.png is not a folder that you may write to"),
    ],
)
def test_a_picture_that_cannot_be_made_is_one_line(
    arguments: list[str], message: str, command: Any, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "old.png").write_text("old")
    code, _, errors = command("data", "preview", *arguments)
    assert code == 2 and message in errors and errors.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "old.png"]
