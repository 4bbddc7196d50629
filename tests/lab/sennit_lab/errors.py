"""The lab's one root of errors: every failure that a user can cause or mend is a LabError."""

from __future__ import annotations


class LabError(Exception):
    """Something went wrong; the message says what, for the person at the terminal."""
