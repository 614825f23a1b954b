"""`python -m sluiceway.runtime.demo`: the demo as a process of its own."""

from sluiceway.runtime.demo.run import run_demo
from sluiceway.runtime.processes.entry import run

raise SystemExit(run(run_demo))
