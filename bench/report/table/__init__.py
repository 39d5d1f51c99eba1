"""Every quantity that is given out, once: CSV, Parquet, JSON, DataFrame, terminal, COLUMNS.md."""
