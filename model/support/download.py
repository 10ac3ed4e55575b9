"""Downloads over TLS alone, wherever a server sends one on to."""

import http.client
import urllib.error
import urllib.request
from typing import IO, Any

__all__ = ["download"]

SCHEMES = ("https",)
"""Of addresses that are asked."""


class _SameSchemes(urllib.request.HTTPRedirectHandler):
    """Follows a server to addresses that might have been asked at first."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        try:
            _check(newurl)
        except OSError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, *, timeout: float) -> Any:
    """The answer of a server, to be read; a context manager.

    Parameters
    ----------
    url : str
        Begins with ``https:``.
    timeout : float
        Seconds for which nothing may come.

    Raises
    ------
    OSError
        It cannot be had over TLS.
    """
    _check(url)
    return urllib.request.build_opener(_SameSchemes).open(url, timeout=timeout)


def _check(url: str) -> None:
    if url.partition(":")[0].lower() not in SCHEMES:
        raise urllib.error.URLError(f"address must begin with {' or '.join(SCHEMES)}, not be {url!r}")
