"""Fetches published files from a hub (huggingface.co, or a mirror of it), or finds them in its local cache."""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

import huggingface_hub
import huggingface_hub.constants
import requests
from requests.adapters import HTTPAdapter

from hcl_tf.progress import working

TIMEOUT = (10.0, 60.0)  # seconds for a connection, and for each answer: a hub that accepts and says nothing must not hold anybody up


class _Impatient(HTTPAdapter):
    """Gives every request a timeout, also those for which the libraries name none."""

    def send(self, request, timeout=None, **rest):
        return super().send(request, timeout=TIMEOUT if timeout is None else timeout, **rest)


def be_impatient() -> None:
    """Lets nothing that is fetched from a hub wait for ever."""

    def session() -> requests.Session:
        made = requests.Session()
        for scheme in ("http://", "https://"):
            made.mount(scheme, _Impatient())
        return made

    huggingface_hub.configure_http_backend(session)


def reachable() -> bool:
    """Says whether the hub, or a proxy to it, can be there. Without this a closed network costs minutes of retries."""
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return False
    be_impatient()
    return connects(huggingface_hub.constants.ENDPOINT)


def connects(url: str) -> bool:
    """Says whether the host of an address, or a proxy that may lead to it, can be there. It takes 2 seconds at most."""
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return True
    try:
        host = urlsplit(url)
        socket.create_connection((host.hostname, host.port or (80 if host.scheme == "http" else 443)), timeout=2).close()
    except (OSError, ValueError, TypeError):
        return False
    return True


def could_be_name(source: str) -> bool:
    """Says whether a user's `source` could be a name on a hub, and not a file or the path of a folder that does not exist."""
    return not (os.path.isfile(source) or source.startswith((".", "/", "~")))


def fetch_weights(name: str, beside: tuple[str, ...]) -> Path:
    """Fetches a model's config.json and weights: safetensors (one file or shards), or TensorFlow's h5 where there are none.

    Args:
      name: on the hub. beside: other files to fetch, such as the vocabulary.

    Returns:
      The folder in the local cache that holds them.

    Raises:
      OSError, ValueError: there is no such name, or no network and nothing in the cache.
    """
    offline = not reachable()

    def fetch(*patterns: str) -> Path:
        wanted = ["config.json", *beside, *patterns]
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted, local_files_only=offline))

    with working(f"fetching {name} from the hub"):
        folder = fetch("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
        return folder if list(folder.glob("model*.safetensors")) else fetch("tf_model.h5")
