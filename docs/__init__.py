"""A package, so that tests can run the examples; some library installs a `docs` package of its own."""
