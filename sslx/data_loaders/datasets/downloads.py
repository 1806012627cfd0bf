"""Downloaded datasets: finding their files, downloading them once, and reporting errors in one line."""

import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
    try:
        with _contained():
            download()
    except Exception as error:  # no network, a missing mirror, a wrong checksum or a read-only folder
        raise DataError(
            f"{name} could not be downloaded to {printable(str(folder))} ({one_line(error)}); choose "
            "a folder that has it with --data-dir or SSLX_DATA"
        ) from error


@contextmanager
def _contained() -> Iterator[None]:
    """Inside the context no archive writes outside its folder, nor anything but files and folders.

    Not by `tarfile.data_filter`, which the first releases of Python 3.10 and 3.11 do not have.
    """
    whole: Any = tarfile.TarFile.extractall

    def extractall(archive: tarfile.TarFile, path: Any = ".", *args: Any, **kwargs: Any) -> None:
        folder = Path(path).resolve()
        for member in archive.getmembers():
            inside = (folder / member.name).resolve().is_relative_to(folder)
            if not inside or not (member.isreg() or member.isdir()):
                raise ValueError(f"the archive has {member.name!r}, which is not a file or folder inside of it")
        whole(archive, path, *args, **kwargs)

    tarfile.TarFile.extractall = extractall  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        tarfile.TarFile.extractall = whole  # type: ignore[method-assign]


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
    if isinstance(error, KeyError):  # whose text is the key alone
        return printable(f"there is no {error}")
    return printable(" ".join(str(error).split())) or type(error).__name__


def agreeing(files: Path, images: int, labels: Tensor, classes: int) -> None:
    """Raises DataError unless there is a label for each image, from 0 to `classes` - 1."""
    where = printable(str(files))
    if images != len(labels):
        raise DataError(f"{where}: there are {images} images but {len(labels)} labels; delete these files")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        found = f"there are labels from {int(labels.min())} to {int(labels.max())}"
        raise DataError(f"{where}: {found}, expected {classes} classes; delete these files")
