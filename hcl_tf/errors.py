"""The one exception that a command turns into a message for its user instead of a traceback."""


class UserError(Exception):
    """Something the user gave can't be used. The text names the thing (file and line, or flag) and the remedy."""
