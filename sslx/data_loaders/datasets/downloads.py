"""Downloaded datasets: finding their files, downloading them once, and reporting errors in one line."""

import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sslx.api import DataError


def cache_folder() -> Path:
    """The folder of files that can be made again, shared by all datasets and runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sslx"


def obtain(name: str, folder: Path, files: Sequence[Path], download: Callable[[], object], offline: bool) -> None:
    """Call `download` unless all `files` of the dataset exist.

    Args:
        folder: the folder of the dataset, for messages.
        offline: whether to raise an error instead of a download.

    Raises DataError, which names the folder, if the files are missing and cannot be downloaded.
    """
    if all(path.exists() for path in files):
        return
    if offline:
        raise DataError(
            f"{name} is not in {folder}: choose another folder with --data-dir or SSLX_DATA, "
            "or leave out --offline to download it"
        )
    before = vars(tarfile.TarFile)["extraction_filter"]
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)  # no archive may write outside its folder
    try:
        download()
    except Exception as error:  # no network, a missing mirror, a wrong checksum or a read-only folder
        raise DataError(
            f"{name} could not be downloaded to {folder} ({' '.join(str(error).split())}); "
            "choose a folder that has it with --data-dir or SSLX_DATA"
        ) from error
    finally:
        tarfile.TarFile.extraction_filter = before


@contextmanager
def reading(files: Path) -> Iterator[None]:
    """Turn any error of reading a damaged file into a DataError of one line that names the file."""
    try:
        yield
    except Exception as error:  # damaged files raise many kinds
        reason = " ".join(str(error).split())
        raise DataError(f"{files} cannot be read ({reason}); delete these files to download them again") from error


def agreeing(files: Path, images: int, labels: int) -> None:
    """Raises DataError unless there is a label for each image."""
    if images != labels:
        raise DataError(f"{files}: there are {images} images but {labels} labels; delete these files")
