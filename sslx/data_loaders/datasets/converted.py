from pathlib import Path

from sslx.api import ConfigError, Dataset, Split, option, printable
from sslx.data_loaders.beton import Beton
from sslx.data_loaders.datasets.folder import Folder


class Converted(Dataset):
    """A dataset that `sslx data convert` wrote to one file: `beton:x.beton`. Any loader reads it when it is needed.

    The file contains the images, their labels, their original sizes and which of them belong together, but no other
    factors of variation. Views are by default those of the dataset `folder`, whichever dataset was converted.
    """

    defaults = Folder.defaults

    path: Path = option(help="Path of the .beton file.")

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        path = self.path.expanduser().resolve()
        if not path.is_file():
            raise ConfigError(f"dataset.path: {printable(str(path))} does not exist or is not a file")
        file = Beton(path)
        return file.split(0), file.split(1)
