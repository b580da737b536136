"""One script a claim. `python -m benchmarks` lists them."""
