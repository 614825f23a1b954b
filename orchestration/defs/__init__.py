"""One folder a kind of definition: each has assets, checks, sensors or schedules, and nothing else."""
