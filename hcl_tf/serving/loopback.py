"""Opens the port of this machine on which a page is served, before anything slow happens."""

import ipaddress
import socket
import sys

from hcl_tf.errors import UserError


def listen(host: str, port: int) -> socket.socket:
    """Opens a socket that listens on an address. Warns on standard error where other machines can reach it.

    Raises:
      UserError: the host is not this machine, or the port is taken.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host={host}: no such host; give an address of this machine, such as 127.0.0.1") from error
    listener = socket.socket(family, kind)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise UserError(f"--host={host} --port={port}: can't be listened on ({error.strerror}); give another --port") from error
    if not ipaddress.ip_address(address[0].split("%")[0]).is_loopback:
        print(f"warning: --host={host} opens the page to every machine that reaches this one, without a password", file=sys.stderr)
    return listener


def url(listener: socket.socket) -> str:
    """Returns the page's address for a browser of this machine."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
