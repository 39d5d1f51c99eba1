"""A model made ready to compute: built, in a runtime and a precision, for a step or an answer."""
