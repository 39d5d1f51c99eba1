"""What to run, as data: models, data sets, recipes, runs, profiles and experiments.

Everything here is immutable, validated on construction and free of torch, so that a file or a
command line is refused before anything heavy is imported or anything is written.
"""
