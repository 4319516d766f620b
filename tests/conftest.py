"""Settings of the whole suite, and what more than one folder of it needs."""

from pathlib import Path

import pytest
import trustme
from hypothesis import settings

# Speed is measured by scripts/bench; a busy machine must not fail a property.
settings.register_profile("securechat", deadline=None)
settings.load_profile("securechat")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ca.pem`, `server.pem` and `server-key.pem`."""
    folder = tmp_path_factory.mktemp("certs")
    ca = trustme.CA()
    leaf = ca.issue_cert("127.0.0.1", "localhost")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    leaf.private_key_pem.write_to_path(folder / "server-key.pem")
    for blob in leaf.cert_chain_pems:
        blob.write_to_path(folder / "server.pem", append=True)
    return folder
