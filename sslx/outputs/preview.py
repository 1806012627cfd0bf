"""A picture of images and their views."""

from pathlib import Path

import matplotlib.pyplot as plt

from sslx.core.data import Split
from sslx.core.errors import ConfigError
from sslx.core.interfaces import ViewPolicy
from sslx.core.randomness import Use, permutation
from sslx.outputs.pictures import visible

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".pdf", ".svg")


def preview(split: Split, policy: ViewPolicy, out: Path, rows: int = 6, seed: int = 0) -> None:
    """Write a picture with a row for each of some images: the image, its views, its further views if any.

    Raises ConfigError if the images are not pictures, such as points in the plane.
    """
    if split.images.shape[2:].numel() == 1:
        raise ConfigError("dataset: expected pictures; these have one pixel")
    index = permutation(len(split), Use.SUBSET, seed)[:rows]
    sizes = None if split.sizes is None else split.sizes[index]
    views = policy(split.images[index], index, seed=seed, epoch=0, sizes=sizes)
    columns = [views.original, *views.x.unbind(dim=1)]
    columns += [] if views.local is None else views.local.unbind(dim=1)
    figure, axes = plt.subplots(len(index), len(columns), figsize=(len(columns), len(index) + 0.3), squeeze=False)
    for j, column in enumerate(columns):
        axes[0, j].set_title("image" if j == 0 else f"view {j}", fontsize=8)
        for n, image in enumerate(visible(column).movedim(1, -1).numpy()):  # noise can leave [0, 1]
            axes[n, j].imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes[n, j].axis("off")
    figure.tight_layout(pad=0.2)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)
    plt.close(figure)
