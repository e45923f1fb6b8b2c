"""Benchmarks, run by hand: `python3 tasks.py bench [NAME …]`. Each measures a baseline in the same run."""
