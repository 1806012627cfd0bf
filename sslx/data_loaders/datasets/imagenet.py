from pathlib import Path
from typing import Literal

from sslx.api import DataError, Dataset, Split, option, printable
from sslx.data_loaders.datasets.files import BAD_IMAGES, MEMORY
from sslx.data_loaders.datasets.folder import Folder
from sslx.data_loaders.datasets.suited import suited

_SUITED = suited(224, images=1_281_167)


class ImageNet(Dataset):
    """1 281 167 photographs in 1000 classes (ILSVRC 2012); `val` is for testing.

    The files are DATA_DIR/imagenet/train/SYNSET/* and DATA_DIR/imagenet/val/SYNSET/*, as torchvision lays them out. An
    image is resized as a whole, and the crops of views are drawn in its original height and width.
    """

    defaults = {**_SUITED, "views": {**_SUITED["views"], "crop": (0.08, 1.0), "size": 224}}

    size: int = option(default=256, gt=0, help="Height and width of the stored images.")
    bad_images: Literal["fail", "skip"] = option(default="fail", help=BAD_IMAGES)
    memory: float = option(default=4.0, ge=0, help=MEMORY)

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        root = folder / "imagenet"
        if missing := [name for name in ("train", "val") if not (root / name).is_dir()]:
            raise DataError(
                f"ImageNet: there is no {printable(str(root / missing[0]))}; get the files from image-net.org, which "
                "needs an account, and unpack them to train/SYNSET/* and val/SYNSET/* there, or choose another "
                "--data-dir"
            )
        return Folder(path=root, size=self.size, bad_images=self.bad_images, memory=self.memory).load(folder, offline)
