"""The HTTP API and the one ASGI application: routes wrap services of the domain, about 20 lines each."""
