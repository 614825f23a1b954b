"""What the gates decide and found: suites, results, dead letters. The engine itself is behind `Gate`."""
