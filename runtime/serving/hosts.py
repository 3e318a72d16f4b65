"""The names under which a server without a token may be asked.

Any page in a browser of this machine can send requests here. It cannot read the answers, unless
the name of its own site is made to point here afterwards (DNS rebinding): then the browser takes
both for one site. The request names that site in `Host`, and so it is refused. Names without a dot
belong to nobody on the internet; proxies and containers call their neighbours by them.
"""

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from attnrec.runtime.serving.errors import TARGET, Refused

_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+))(?::[0-9]*)?")
_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


class Hosts:
    """Which values of the header `Host` are answered."""

    def __init__(self, names: Sequence[str] = (), *, any_address: bool = False) -> None:
        """names: hosts beside those of this machine.

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
                "this server has no token, so it answers to localhost and 127.0.0.1 only; ask "
                "there, or start it with --allowed-hosts and the name that the request used"
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
