"""Silver assets: a pipeline's typed rows and samples, a day at a time, with their quality checks."""
