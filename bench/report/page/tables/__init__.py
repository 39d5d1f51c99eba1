"""The tables of a report, as data that each renderer draws."""
