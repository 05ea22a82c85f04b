"""Errors for users: one line, printed by the command line without a traceback."""


class UserError(ValueError):
    """An error that the caller can fix: the message says what was found, what was expected and what to type next."""


class DataError(UserError):
    """An error in audio, labels or the layout of a corpus; the message names the file."""


class ConfigError(UserError):
    """An error in a setting: unknown, of the wrong type, or impossible together with another."""


class MemoryLimitError(UserError, MemoryError):
    """An error of a call that would take more memory than is allowed; nothing was allocated."""


MAX_CHARACTERS = 400
"""Length at which `reason` cuts a message: long ones of torch and numpy begin with the cause."""


def reason(error: BaseException) -> str:
    """Return the text of an error as one line, or its type if it has none.

    All lines are kept: the first of several often ends with a colon.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + " ..."
