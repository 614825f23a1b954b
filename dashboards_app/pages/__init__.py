"""The pages: each has `show()`, asks the API through `client()` and shows what it got."""
