"""Downloads come over TLS or not at all."""

import http.server
import threading
import urllib.error
import urllib.request

import pytest

from model.support import download
from model.support.cifar import _PUBLISHED
from model.support.datasets import MIRRORS


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "ftp://127.0.0.1:9/", "file:///etc/passwd", "data:,x", "/etc/passwd", ""])
def test_other_addresses_are_not_asked(url):
    with pytest.raises(urllib.error.URLError) as caught:
        download.download(url, timeout=1)
    assert caught.value.reason == f"address must begin with https, not be {url!r}"


def test_what_is_asked_is_all_tls():
    assert all(url.startswith("https://") for url in (*MIRRORS, _PUBLISHED.url))


@pytest.mark.parametrize("place", ["http://127.0.0.1:9/x", "ftp://127.0.0.1:9/x", "//127.0.0.1:9/x"])
def test_a_redirect_to_another_address_is_not_followed(place):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", place)
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        opener = urllib.request.build_opener(download._SameSchemes)
        with pytest.raises(urllib.error.URLError) as caught:
            opener.open(f"http://127.0.0.1:{server.server_port}/", timeout=10)
        server.shutdown()
    where = place if ":" in place[:5] else f"http:{place}"
    assert caught.value.reason == f"address must begin with https, not be {where!r}"
