"""Key: the secret under which --deidentify replaces UIDs, so that nobody without it can tell which scan is which."""

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from medseg.atomic import unwritable
from medseg.errors import OptionError

BYTES = 32
FORM = re.compile(rf"[0-9a-f]{{{2 * BYTES}}}")


def new_key() -> bytes:
    """Return a key that nobody has had before."""
    return secrets.token_bytes(BYTES)


def kept_key(path: Path, *, out: Path) -> bytes:
    """Return the key in a file, which is made, for its owner only, where it is missing.

    Commands that ask for one missing file at once get the same key.

    Args:
        path: the file.
        out: the output folder, in which it must not lie.

    Raises:
        OptionError: it would lie beside the outputs, or the file holds something else.
        UnwritableError: the file cannot be made or read.
    """
    if path.resolve().is_relative_to(out.resolve()):
        raise _refused(path, "it lies in the output folder, where whoever gets the outputs gets the key")
    try:
        if not path.exists():
            _make(path)
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise unwritable(path, error) from error
    if not FORM.fullmatch(text):
        raise _refused(path, f"it holds something else than a key, which is {2 * BYTES} hexadecimal digits")
    return bytes.fromhex(text)


def _make(path: Path) -> None:
    """Make a file with a new key, which appears whole; one that another command made meanwhile stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(f"{new_key().hex()}\n")
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _refused(path: Path, found: str) -> OptionError:
    return OptionError(
        f"--key-file {path}", found=found, remedy="name a new file in a place of your own, or one that medseg made"
    )
