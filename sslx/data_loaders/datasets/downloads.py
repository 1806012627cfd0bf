"""What the downloaded datasets share: look for their files, fetch them once, and say in one line what is wrong."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sslx.api import DataError


def cache_folder() -> Path:
    """Where what can be made again is kept, for all datasets and runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sslx"


def obtain(name: str, folder: Path, files: Sequence[Path], download: Callable[[], object], offline: bool) -> None:
    """Call `download` unless all `files` of the set are there. Raises DataError, saying where they were sought.

    Args:
        folder: where the set is kept, for messages.
        offline: never download.
    """
    if all(path.exists() for path in files):
        return
    if offline:
        raise DataError(
            f"{name} is not in {folder}: choose another folder with --data-dir or SSLX_DATA, "
            "or leave out --offline to download it"
        )
    try:
        with _confined():
            download()
    except Exception as error:  # no network, a mirror that is gone, a wrong checksum, a folder that is read-only
        raise DataError(
            f"{name} could not be downloaded to {folder} ({' '.join(str(error).split())}); "
            "--data-dir or SSLX_DATA choose a folder that has it"
        ) from error


@contextmanager
def _confined() -> Iterator[None]:
    """No member of a tar archive that is unpacked meanwhile, by whatever library, lands outside its folder."""
    before = getattr(tarfile.TarFile, "extraction_filter", None)
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)  # what Python 3.14 does by itself
    try:
        yield
    finally:
        if before is None:
            del tarfile.TarFile.extraction_filter
        else:
            tarfile.TarFile.extraction_filter = staticmethod(before)


@contextmanager
def reading(files: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes its reader raise into one line that names it."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # there are as many kinds as there are ways to damage a file
        raise DataError(f"{files} cannot be read: delete these files to download them again") from error


def agreeing(files: Path, images: int, labels: int) -> None:
    """Raises DataError unless there is a label for each image."""
    if images != labels:
        raise DataError(f"{files} contradict each other: {images} images, {labels} labels")
