"""A plugin (``-p tests.with_own_variants``) with which the tests see the variants of a user."""


def pytest_collection():
    """Put them into the tables, not before jaxtyping watches for imports."""
    import tests.own_variants  # noqa: F401
