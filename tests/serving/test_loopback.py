"""Where a page is served."""

import pytest

from hcl_tf.errors import UserError
from hcl_tf.serving import loopback


def test_a_port_in_use_and_a_foreign_host_are_refused(capsys):
    with loopback.listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert loopback.url(listener) == f"http://127.0.0.1:{port}"
        with pytest.raises(UserError, match=f"--port={port}: can't be listened on .*in use.*give another --port"):
            loopback.listen("127.0.0.1", port)
    with pytest.raises(UserError, match="--host=no host: no such host"):
        loopback.listen("no host", 0)
    with pytest.raises(UserError, match=r"--host=192\.0\.2\.1 "):  # of a net that is nobody's (RFC 5737)
        loopback.listen("192.0.2.1", 0)
    assert capsys.readouterr().err == ""


def test_other_machines_reach_the_page_only_after_a_warning(capsys):
    loopback.listen("0.0.0.0", 0).close()
    assert "warning: --host=0.0.0.0 opens the page to every machine" in capsys.readouterr().err
