"""Run with ``python3 -m unittest`` in the directory above."""
