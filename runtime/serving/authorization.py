"""Which requests are answered: those with the token or, without a token, those to allowed hosts.

Any page in a browser of this machine can send requests here. It cannot read the answers, unless
the name of its own site is made to point here afterwards (DNS rebinding): then the browser takes
both for one site. The request names that site in `Host`, and so it is refused. Names without a dot
are no names of the internet; proxies and containers use them for their neighbours.
"""

import hmac
import ipaddress
import logging
import re
import shlex
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from attnrec.runtime.serving.errors import TARGET, Refused

logger = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/", "/healthz", "/readyz"})
"""Paths that need no token: their answers hold nothing of the file."""
PROBES = frozenset({"/healthz", "/readyz"})
"""Paths that are answered under any host name: load balancers use addresses."""
_SHORTEST_TOKEN = 16
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+))(?::[0-9]*)?")
_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


class AllowedHosts:
    """Which values of the header `Host` are answered."""

    def __init__(self, names: Sequence[str] = (), *, any_address: bool = False) -> None:
        """names: hosts in addition to those of this machine.

        any_address: also IP addresses, to which no name of a site can be rebound.
        """
        self._names = frozenset(map(_plain, names))
        self._any_address = any_address
        self.allows = lru_cache(maxsize=256)(self._allows)

    def check(self, scope: Any) -> None:
        """`Refused` unless every host that a request names is one of these."""
        named = [value for name, value in scope["headers"] if name == b"host"]
        if len(named) > 1 or (not named and scope["http_version"] == "1.1"):
            raise Refused(400, f"{len(named)} headers Host; send one")
        named += scope["state"].get(TARGET, ())
        if not all(map(self.allows, named)):
            detail = (
                "this server has no token, so it answers to localhost and 127.0.0.1 only; use "
                "these names, or start it with --allowed-hosts and the name that the request used"
            )
            raise Refused(421, detail)

    def _allows(self, authority: bytes) -> bool:
        found = _AUTHORITY.fullmatch(authority.strip().lower().decode("latin-1"))
        if found is None:
            return False
        host = _plain(found[1] or found[2])
        if host == "localhost" or host in self._names:
            return True
        if _is_address(host):
            return self._any_address or ipaddress.ip_address(host).is_loopback
        return found[2] is not None and "." not in found[2]  # "x." is a name of the internet


class Authorization:
    """Checks the token or, if there is none, the hosts that a request names."""

    def __init__(self, token: str | None = None, hosts: AllowedHosts | None = None) -> None:
        """token: None: requests without a token are answered, under one of the hosts."""
        self.has_token = token is not None
        self._token = None if token is None else token.encode()
        self._hosts = (hosts or AllowedHosts()) if token is None else None

    def check(self, scope: Any) -> None:
        """`Refused` unless the request may have what is at its path."""
        path = scope["path"]
        if path not in PROBES:
            self._check_host(scope)
        if path not in OPEN_PATHS:
            self._check_token(scope)

    def allows_everything(self, scope: Any) -> bool:
        """Whether the request may have every path."""
        try:
            self._check_host(scope)
            self._check_token(scope)
        except Refused:
            return False
        return True

    def _check_host(self, scope: Any) -> None:
        if self._hosts is not None:
            self._hosts.check(scope)

    def _check_token(self, scope: Any) -> None:
        if self._token is None:
            return
        sent = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                sent = value
        scheme, _, token = sent.partition(b" ")
        is_right = hmac.compare_digest(token, self._token)
        if scheme.lower() != b"bearer" or not is_right:
            detail = "send the header Authorization: Bearer TOKEN, with the token of this server"
            raise Refused(401, detail, headers={"WWW-Authenticate": "Bearer"})


def hosts_in(text: str) -> list[str]:
    """The hosts of `--allowed-hosts`, with commas between them. `ValueError` for anything else."""
    hosts = [host.strip() for host in text.split(",")]
    for host in hosts:
        if not _is_address(host) and not _NAME.fullmatch(host.lower()):
            raise ValueError(
                f"--allowed-hosts: {host!r} is no name or address of a host; give hosts with "
                "commas between them, without scheme, port or path: shop.example,10.0.0.5"
            )
    return hosts


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


def _plain(host: str) -> str:
    """One spelling for a host: lower case, without the dot of the root, addresses in short."""
    host = host.lower().removesuffix(".")
    return str(ipaddress.ip_address(host)) if _is_address(host) else host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
