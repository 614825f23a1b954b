"""Pages that work before and without the app: sign-in, sign-out, the API reference. HTML and CSS only."""
