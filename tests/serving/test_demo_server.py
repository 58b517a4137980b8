"""What the server of the demo sends, over a real connection."""

import threading
from http.client import HTTPConnection, HTTPResponse

import pytest
from test_demo_page import EXAMPLES, run

from hcl_tf.serving import loopback
from hcl_tf.serving.demo_server import DemoServer


@pytest.fixture
def get():
    """Asks a server for an address: path -> answer."""
    with loopback.listen("127.0.0.1", 0) as listener:
        server = DemoServer([run()], EXAMPLES, listener)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def ask(path: str) -> HTTPResponse:
            connection = HTTPConnection(*listener.getsockname())
            connection.request("GET", path)
            return connection.getresponse()

        yield ask
        server.shutdown()
        thread.join()


def test_the_page_opens_with_an_example_and_its_answer(get):
    answer = get("/")
    page = answer.read().decode()
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "first text</textarea>" in page
    assert page.count('class="chip"') == 2
    assert ">out</p>" in page


def test_an_address_holds_what_its_page_shows(get):
    page = get("/?text=typed&add=%E5%87%8F%E8%82%A5%EF%BC%8Cdiet").read().decode()
    assert "typed</textarea>" in page
    assert [word for word in ("a", "b", "减肥", "diet") if f'value="{word}"' not in page] == []


@pytest.mark.parametrize("path", ["/", "/demo.css", "/nowhere"])
def test_nothing_from_elsewhere_and_no_script_is_allowed(get, path):
    policy = get(path).headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; ")
    assert "unsafe" not in policy
    assert "script" not in policy


def test_other_addresses_are_not_there_and_nothing_is_logged(get, capfd):
    assert get("/../demo.html").status == 404
    assert get("/demo.css").read().startswith(b":root")
    assert get("/?text=%ff%fe%00&add=%00").status == 200
    assert get(f"/?text={'a' * 70_000}").status == 414
    assert capfd.readouterr().err == ""
