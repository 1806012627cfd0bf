import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sslx.api import Use, ViewPolicy, Views, key, option, uniform


class Restyle(ViewPolicy):
    """Each view is the image on black, rotated, shifted and darkened by random amounts.

    These changes are added to the style that the image already has. So the views of an image have little style in
    common, and less the wider the ranges are.
    """

    rotation: float = option(default=45.0, ge=0, le=180, help="Largest angle v in degrees, uniform in [-v, v].")
    shift: float = option(default=4.0, ge=0, help="Largest shift v in pixels, right and down, uniform in [-v, v].")
    brightness: float = option(default=0.4, ge=0, le=1, help="Smallest factor v of pixels, uniform in [v, 1].")

    def __call__(self, images: Tensor, index: Tensor, *, seed: int, epoch: int, sizes: Tensor | None = None) -> Views:
        """(N, C, H, W) uint8 images and their (N,) positions in the dataset -> their views."""
        draws = uniform(key(Use.VIEWS, seed, epoch, index.cpu()[:, None], torch.arange(self.count)), 4)  # (N, J, 4)
        low = torch.tensor([-self.rotation, -self.shift, -self.shift, self.brightness])
        high = torch.tensor([self.rotation, self.shift, self.shift, 1.0])
        rotation, dx, dy, brightness = (low + (high - low) * draws).flatten(0, 1).to(images.device).unbind(dim=1)
        x = restyle(images.repeat_interleave(self.count, dim=0), rotation, dx, dy, brightness, scale=1.0)
        original = images.float() / 255
        return Views(x=x.unflatten(0, (-1, self.count)).float() / 255, original=original, index=index.to(images.device))


def restyle(
    images: Tensor, rotation: Tensor, dx: Tensor, dy: Tensor, brightness: Tensor, scale: float = 0.75
) -> Tensor:
    """(n, C, S, S) uint8 -> the same images on black, shrunk about the centre, rotated, shifted and darkened.

    Args:
        rotation: degrees counterclockwise, (n,).
        dx, dy: pixels to the right and down, (n,).
        brightness: factor, (n,).
        scale: size of the shrunk image, as a fraction of the original.
    """
    angle = rotation * (math.pi / 180)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    x, y = (shift * (-2 / images.shape[-1]) for shift in (dx, dy))
    # affine_grid needs the inverse map, from new pixels to old ones, in units of half the image.
    rows = torch.stack([cos, -sin, cos * x - sin * y, sin, cos, sin * x + cos * y], dim=1).reshape(-1, 2, 3)
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    moved = F.grid_sample(images.float(), grid, align_corners=False)
    return (moved * brightness[:, None, None, None]).round().clamp(0, 255).to(torch.uint8)
