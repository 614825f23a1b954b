"""`python -m benchmarks [name …]`: run the benchmarks and keep their results."""

import sys

from benchmarks.harness import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
