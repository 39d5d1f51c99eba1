"""On which test set the sessions of a profile are tested, as data."""

from __future__ import annotations

from bench.spec.recipe import Recipe
from bench.spec.run import DataSpec
from bench.spec.values import Frozen


class TestSpec(Frozen):
    """Which test set, normalised as which recipe does; ``classes`` are those of the weights.

    With ``required`` a data set that is not there or does not fit is an error, else a warning.
    """

    __test__ = False  # pytest takes the name for a class of tests

    data: DataSpec
    recipe: Recipe
    classes: tuple[str, ...] | None = None
    required: bool = False
