"""The file with the token that clients have to send."""

import logging
import shlex
from pathlib import Path

logger = logging.getLogger(__name__)

_SHORTEST_TOKEN = 16


def token_of(path: Path) -> str:
    """The token in a file. `ValueError` if it is missing, short, or cannot be sent in a header."""
    try:
        token = path.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"--token-file {path} cannot be read: {reason}; make one with: "
            f"(umask 077; openssl rand -hex 32 > {shlex.quote(str(path))})"
        ) from error
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise ValueError(
            f"--token-file {path} holds {len(token)} characters; a token has at least "
            f"{_SHORTEST_TOKEN} printable ASCII characters on one line"
        )
    if path.stat().st_mode & 0o077:
        logger.warning("%s can be read by others: chmod 600 %s", path, shlex.quote(str(path)))
    return token
