"""Files that are there whole."""

import os


def replace_text(path, text):
    """Write a text file that is there whole, the old or the new one, whatever happens
    meanwhile. Raises OSError."""
    temporary = path.with_suffix(f".part{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
