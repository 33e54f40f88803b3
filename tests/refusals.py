"""Rows of tables of what is refused."""


def bad(message, error=ValueError, **arguments):
    """Return arguments, and the error whose text a pattern has to match."""
    return arguments, error, message
