"""Executes the tutorials and stores what they print and draw: python docs/tutorials/run.py [NAME ...]

A notebook is source and page at once. It runs in an empty folder, on one thread. From its output, this removes what
differs between computers: lines of progress, colours of the terminal, and the path of that folder. Pictures are stored
smaller. The time that the first cell states is the processor time that was measured here. Needs nbclient and
ipykernel, which the extra `docs` installs.
"""

import base64
import io
import os
import re
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_output
from PIL import Image

HERE = Path(__file__).parent
TIME = "**Time**: about {} s on one core of a shared cloud server (x86-64), as measured when this page was made."


def execute(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        client = NotebookClient(book, timeout=900, record_timing=False, resources={"metadata": {"path": folder}})
        client.execute()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        for cell in book.cells:
            cell.metadata = {}
            if cell.cell_type == "code":
                cell.outputs = list(cleaned(cell.outputs, folder))
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    first = book.cells[0]
    first.source = re.sub(r"\*\*Time\*\*.*", TIME.format(10 * round(seconds / 10)), first.source)
    book.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(book, path)
    print(f"{path.name}: {seconds:.0f} CPU-seconds, {path.stat().st_size // 1000} kB")


def cleaned(outputs: list[nbformat.NotebookNode], folder: str) -> Iterator[nbformat.NotebookNode]:
    """The text of a cell as one output, then its pictures."""
    text = "".join(output.text for output in outputs if output.output_type == "stream").replace("\r\n", "\n")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    progress = r"^(?:epo.*(?:…|s left)|loss .* {2}) *\n?"  # in two lines if the terminal is narrow
    text = re.sub(progress, "", text.replace("\r", "\n"), flags=re.MULTILINE)
    text = re.sub(r"^\n|\n(?=\n\n)", "", text).replace(f"{folder}/", "")
    if text.strip():
        yield new_output("stream", text=text)
    for output in outputs:
        if output.output_type != "stream":
            if "image/png" in output.data:
                output.data = {"image/png": smaller(output.data["image/png"]), "text/plain": output.data["text/plain"]}
            yield output


def smaller(png: str) -> str:
    """A picture of at most 1000 pixels in each direction and 256 colours."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.thumbnail((1000, 1000))
    picture.quantize(256, dither=Image.Dither.NONE).save(file := io.BytesIO(), "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


if __name__ == "__main__":
    os.environ |= {"OMP_NUM_THREADS": "1", "TERM": "dumb", "COLUMNS": "100"}
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for name in sys.argv[1:] or sorted(path.stem for path in HERE.glob("*.ipynb")):
        execute(HERE / f"{name}.ipynb")
