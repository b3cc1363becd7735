"""The errors that this project raises on purpose.

Each message says where, what was expected, what was found, and the next step.
"""


class NannError(Exception):
    """Base of every error that this project raises on purpose."""


class InvalidInputError(NannError, ValueError):
    """An argument, option or array is not what the call takes."""


class InvalidFileError(NannError, ValueError):
    """A file or folder on disk is missing, damaged or of another kind than expected."""


class VerificationError(NannError):
    """A written model does not answer as the reference implementation does."""


class NannWarning(UserWarning):
    """What was asked for was done, and may not be what was meant."""


class MissingDependencyError(NannError, ImportError):
    """An optional dependency is not installed; the message names the extra that holds it."""
