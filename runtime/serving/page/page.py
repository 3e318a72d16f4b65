"""The web page: one file, whose requests go to this server alone."""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

_FILE = Path(__file__).with_name("page.html")


@cache
def _page() -> tuple[bytes, dict[str, str]]:
    """The file and its headers: only its own script and style may run, whatever titles hold."""
    content = _FILE.read_bytes()
    script, style = (_source(content, tag) for tag in (b"script", b"style"))
    policy = (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src data:; "
        "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return content, {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
        "ETag": f'"{hashlib.sha256(content).hexdigest()[:16]}"',
    }


def _source(content: bytes, tag: bytes) -> str:
    """The name of the only inline element of a kind in a Content-Security-Policy."""
    (inline,) = re.findall(b"<%b>(.*?)</%b>" % (tag, tag), content, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline).digest()).decode()}'"


async def page(request: Request) -> Response:
    """The page, or 304 if the browser has it."""
    content, headers = _page()
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type="text/html")
