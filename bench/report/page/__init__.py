"""Renderers: Markdown, HTML, CSV and the terminal, last and pure."""
