"""Sealed blocks on disk: their format, how they are written and checked, and computing over them with DuckDB."""
