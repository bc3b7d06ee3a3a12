"""Signatures: who wrote an artifact, where hashes only say that it is whole.

`.signature` beside `manifest.json` holds HMAC-SHA256 of the manifest's digest, which names all of
the artifact, under a secret. Whoever can verify can sign: the secret is for the job that exports
and the service, and for nobody else.
"""

from __future__ import annotations

import hashlib
import hmac
import stat
from pathlib import Path

from recomind.artifacts.folder import read_manifest
from recomind.artifacts.json_files import read_json, write_json
from recomind.errors import ArtifactError, ConfigError

SIGNATURE, _ALGORITHM = ".signature", "hmac-sha256"
_CONTEXT = b"recomind artifact\n"  # the secret may sign other things elsewhere
_MIN_BYTES = 16


def sign(folder: Path, key_file: Path) -> None:
    """Sign an artifact; its files are checked first.

    Raises:
        ArtifactError: absent, damaged, or of a format version without a digest.
        ConfigError: no key, a short one, or one that others can read.
    """
    write_json(Path(folder) / SIGNATURE, {_ALGORITHM: _signature(Path(folder), Path(key_file))})


def verify_signature(folder: Path, key_file: Path) -> None:
    """Check that an artifact was signed as it is now.

    Raises:
        ArtifactError: absent, damaged, not signed, or by another key or as something else.
        ConfigError: no key, a short one, or one that others can read.
    """
    wanted, path = _signature(Path(folder), Path(key_file)), Path(folder) / SIGNATURE
    mend = "run `recomind export` with serving.key_file, where it may be trusted"
    if not path.is_file():
        raise ArtifactError("an artifact that is not signed", got=folder, mend=mend)
    found = read_json(path, "signature", mend)
    given = found.get(_ALGORITHM) if isinstance(found, dict) else None
    if not hmac.compare_digest(str(given).encode(), wanted.encode()):
        raise ArtifactError("an artifact with another signature", got=folder, mend=mend)


def _signature(folder: Path, key_file: Path) -> str:
    manifest = read_manifest(folder)
    if not manifest.digest:
        raise ArtifactError(
            "an artifact of format version 1 has no digest to sign",
            got=folder,
            mend="write it anew with this version",
        )
    message = _CONTEXT + manifest.digest.encode()
    return hmac.new(_secret(key_file), message, hashlib.sha256).hexdigest()


def _secret(path: Path) -> bytes:
    make = f"head -c 32 /dev/urandom > {path} && chmod 600 {path}"
    try:
        secret, mode = path.read_bytes(), path.stat().st_mode
    except OSError as error:
        raise ConfigError("no key", got=f"{path}: {error.strerror}", mend=make) from error
    if len(secret) < _MIN_BYTES:
        got = f"{len(secret)} bytes in {path}"
        raise ConfigError(
            "a short key", got=got, expected=f"at least {_MIN_BYTES} bytes", mend=make
        )
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        raise ConfigError("a key that can be read by others", got=path, mend=f"chmod 600 {path}")
    return secret
