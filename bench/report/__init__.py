"""Render records: tables, Markdown, CSV and charts. Reads files only, measures nothing."""
