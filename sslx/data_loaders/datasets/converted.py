"""`beton:FILE`: a dataset that `sslx data convert` wrote."""

from __future__ import annotations

from pathlib import Path

from sslx.api import ConfigError, Dataset, Split, option
from sslx.data_loaders.beton import Beton, require
from sslx.data_loaders.datasets.folder import Folder


class Converted(Dataset):
    """A set that `sslx data convert` wrote to one file: `beton:x.beton`. Read as it is needed, by any loader.

    It has the images, their labels, the sizes they had and which belong together; other factors of variation stay
    behind. Views are those of a folder, whatever set was converted, unless you say otherwise.
    """

    defaults = Folder.defaults

    path: Path = option(help="the .beton file")

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        require()
        path = self.path.expanduser().resolve()
        if not path.is_file():
            raise ConfigError(f"dataset.path: {path} is no file")
        file = Beton(path)
        return file.split(0), file.split(1)
