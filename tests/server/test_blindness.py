"""The server is blind: nothing that it imports, directly or not, can decrypt (docs/design.md, invariant 1)."""

import subprocess
import sys

SECRET = (
    "securechat.mls.group", "securechat.mls.key_schedule", "securechat.mls.secret_tree", "securechat.mls.treekem",
    "securechat.mls.message_protection", "securechat.mls.key_package_bundle", "securechat.mls.crypto.sealing",
    "securechat.mls.crypto.hpke", "securechat.client", "securechat.ui", "securechat.content",
)  # fmt: skip


def imported_by(module: str) -> set[str]:
    code = f"import {module}, sys; print('\\n'.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_the_server_imports_nothing_that_decrypts() -> None:
    imported = imported_by("securechat.server.app")
    assert "securechat.mls.public_group" in imported
    assert [module for module in SECRET if module in imported] == []


def test_the_twin_a_member_imports_it_all() -> None:
    imported = imported_by("securechat.mls.group")
    assert "securechat.mls.secret_tree" in imported
    assert "securechat.mls.message_protection" in imported
