"""A hub that accepts and never answers holds nobody up."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests

import hcl_tf
from hcl_tf.files import hub

FETCH = """
from hcl_tf import cli
from hcl_tf.files import hub
hub.TIMEOUT = (1.0, 1.0)

def main():
    if {what!r} == "vocabulary":
        from hcl_tf.data.tokenizers import wordpiece
        wordpiece.from_hub("somebody/something")
    else:
        hub.fetch_weights("somebody/something", ("vocab.txt",))

cli.run(main)
"""


@pytest.fixture
def silent():
    """The address of a server that takes every connection and says nothing."""
    server = socket.create_server(("127.0.0.1", 0))
    kept = []

    def accept() -> None:
        while True:
            try:
                kept.append(server.accept()[0])
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    server.close()
    for connection in kept:
        connection.close()


@pytest.mark.parametrize("what", [pytest.param("vocabulary", marks=pytest.mark.slow), "weights"])
def test_a_hub_that_never_answers_is_given_up(silent, tmp_path, what):
    environment = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "HTTPS_PROXY", "https_proxy")}
    environment |= {
        "HF_ENDPOINT": silent, "HF_HOME": str(tmp_path), "HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1",
        "PYTHONPATH": str(Path(hcl_tf.__file__).parents[1]),
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", FETCH.format(what=what)], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr[-2000:]
    said = "--vocab=somebody/something: neither a file here nor to be had from a hub" if what == "vocabulary" else "imed out"
    assert said in done.stderr


def test_a_request_without_a_timeout_gets_one(silent, monkeypatch):
    monkeypatch.setattr(hub, "TIMEOUT", (0.5, 0.5))
    session = requests.Session()
    session.mount("http://", hub._Impatient())
    with pytest.raises(requests.exceptions.ReadTimeout):
        session.get(silent)
    with pytest.raises(requests.exceptions.ReadTimeout):
        session.get(silent, timeout=0.2)
