"""Hostile files: a corpus of small files of every format that jaxcam reads, mutations of them, and what readers do.

`python -m tests.hostile --files 100000` reads mutated files in a child process with limits and prints counts.
"""
