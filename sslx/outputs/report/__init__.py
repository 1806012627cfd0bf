"""Reports: self-contained HTML pages of a run, a grid or a study."""

from sslx.outputs.report.gallery import MAPS, gather
from sslx.outputs.report.page import Code, Facts, Figure, Link, Notes, Rows, Section, Verdicts, page
from sslx.outputs.report.report import NAME, Live, wanted, write, write_grid, written, written_grid

__all__ = [
    "MAPS",
    "NAME",
    "Code",
    "Facts",
    "Figure",
    "Link",
    "Live",
    "Notes",
    "Rows",
    "Section",
    "Verdicts",
    "gather",
    "page",
    "wanted",
    "write",
    "write_grid",
    "written",
    "written_grid",
]
