"""Errors that a user can do something about.

The command line turns each into one line and exit status 1, so a message says
what was wrong and what to try.
"""


class EdgecellError(Exception):
    """Base of all errors with a message for the user."""


class InputError(EdgecellError):
    """Data given by the user is missing, unreadable or of the wrong kind."""


class ModelError(EdgecellError):
    """A model file is not one of ours, is damaged, or cannot run here."""


class SourceError(EdgecellError):
    """A frame source (camera, video, folder) cannot be opened or read."""


class OutputError(EdgecellError):
    """A result cannot be written."""


class MissingPackageError(EdgecellError):
    """A command needs an optional package that is not installed."""
