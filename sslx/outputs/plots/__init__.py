"""Plots of runs, with the numbers that they show: curves, scores over options, and what methods make of images."""

from sslx.outputs.plots.images import Of, images
from sslx.outputs.plots.methods import Subject, planes, posterior, similarity
from sslx.outputs.plots.numbers import Pair, Point, axis, curves, heat, pairs, points, scatter
from sslx.outputs.plots.plot import ENDINGS, Plot, ending_of

__all__ = [
    "ENDINGS",
    "Of",
    "Pair",
    "Plot",
    "Point",
    "Subject",
    "axis",
    "curves",
    "ending_of",
    "heat",
    "images",
    "pairs",
    "planes",
    "points",
    "posterior",
    "scatter",
    "similarity",
]
