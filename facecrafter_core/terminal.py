"""What a command prints, on terminals and in files of any encoding."""

from __future__ import annotations

import sys


def escape_unprintable() -> None:
    """Letters that the terminal's or the file's encoding lacks (a Windows code page, mostly) are printed as \\N escapes; without this, printing the
    name of a file could end a command in the midst of its work."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
