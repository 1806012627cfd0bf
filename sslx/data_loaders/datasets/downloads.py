"""Downloaded datasets: finding their files, downloading them once, and reporting errors in one line."""

import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from sslx.api import DataError, printable


def cache_folder() -> Path:
    """The folder of files that can be made again, shared by all datasets and runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sslx"


def regular(path: Path) -> bool:
    """True for a file. Raises ValueError for a pipe or a device, which would wait or never end, OSError for nothing."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("it is not a regular file")
    return True


def obtain(name: str, folder: Path, files: Sequence[Path], download: Callable[[], object], offline: bool) -> None:
    """Call `download` unless all `files` of the dataset exist.

    Args:
        folder: the folder of the dataset, for messages.
        offline: whether to raise an error instead of a download.

    Raises DataError, which names the folder, if the files are missing and cannot be downloaded.
    """
    if all(path.exists() for path in files):
        for path in files:
            if not path.is_dir():
                with reading(path):
                    regular(path)
        return
    if offline:
        raise DataError(
            f"{name} is not in {printable(str(folder))}: choose another folder with --data-dir or SSLX_DATA, "
            "or leave out --offline to download it"
        )
    before = vars(tarfile.TarFile)["extraction_filter"]
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)  # no archive may write outside its folder
    try:
        download()
    except Exception as error:  # no network, a missing mirror, a wrong checksum or a read-only folder
        raise DataError(
            f"{name} could not be downloaded to {printable(str(folder))} ({one_line(error)}); choose "
            "a folder that has it with --data-dir or SSLX_DATA"
        ) from error
    finally:
        tarfile.TarFile.extraction_filter = before


@contextmanager
def reading(files: Path) -> Iterator[None]:
    """Turn any error of reading a damaged file into a DataError of one line that names the file."""
    try:
        yield
    except Exception as error:  # damaged files raise many kinds
        where = printable(str(files))
        raise DataError(
            f"{where} cannot be read ({one_line(error)}); delete these files to download them again"
        ) from error


def one_line(error: Exception) -> str:
    """The text of an error, or its kind if it has none."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def agreeing(files: Path, images: int, labels: Tensor, classes: int) -> None:
    """Raises DataError unless there is a label for each image, from 0 to `classes` - 1."""
    where = printable(str(files))
    if images != len(labels):
        raise DataError(f"{where}: there are {images} images but {len(labels)} labels; delete these files")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        found = f"there are labels from {int(labels.min())} to {int(labels.max())}"
        raise DataError(f"{where}: {found}, expected {classes} classes; delete these files")
