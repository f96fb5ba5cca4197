"""Copies of bundles that tests damage, and what reading them says."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from re2pix_node.bundle.reader import read_bundle
from re2pix_node.errors import BundleError


def edit_manifest(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    data = yaml.safe_load((bundle / "bundle.yaml").read_text())
    edit(data)
    (bundle / "bundle.yaml").write_text(yaml.safe_dump(data))


def replace_proof(bundle: Path, data: bytes) -> None:
    (bundle / "proof.npz").write_bytes(data)
    edit_manifest(bundle, lambda m: m["proof"].update(sha256=hashlib.sha256(data).hexdigest()))


def refusal(bundle: Path) -> str:
    with pytest.raises(BundleError) as caught:
        read_bundle(bundle)
    message = str(caught.value)
    assert "\n" not in message
    assert str(bundle) in message
    return message
