"""Row rules and column masks: who sees which rows, and which columns in what shape."""
