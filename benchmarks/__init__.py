"""Benchmarks: each module with a `run` prints our figure, the limit's and the peer's from the same run."""
