"""Pure helpers with no I/O. Nothing here knows the product's words, a database or a process."""
