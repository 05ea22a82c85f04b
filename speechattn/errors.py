"""The errors that are spoken to a person at the door: one line, no traceback from the command line."""


class UserError(ValueError):
    """Something the caller can mend: the message says what was found, what was expected, what to type next."""


class DataError(UserError):
    """Audio, labels or a corpus layout that cannot be used as it is; the message names the file."""


class ConfigError(UserError):
    """A setting that is unknown, of the wrong type, or impossible together with another."""


class MemoryLimitError(UserError, MemoryError):
    """A call that was refused because it would take more memory than was allowed; nothing was allocated."""


MOST_CHARACTERS = 400
"""Of a reason: what torch and numpy say at length begins with what matters."""


def reason(error: BaseException) -> str:
    """Return the text of an error as one line, or its type if it has none.

    All lines are kept: the first of several often ends with a colon.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " ..."
