"""Who wrote an artifact: a signature by a secret that only writers and readers have."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from recomind.artifacts import MANIFEST, Manifest, sign, verify_signature, write_artifact
from recomind.artifacts.signing import SIGNATURE
from recomind.errors import ArtifactError, ConfigError
from recomind.serving import ServingConfig
from recomind.serving.loading import check_released
from tests.sealing import reseal


def key_file(folder: Path, secret: bytes = bytes(range(32))) -> Path:
    path = folder / f"key-{secret[0]}"
    path.write_bytes(secret)
    path.chmod(0o600)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    verdict = {"released": True, "reasons": [], "judged": "0" * 64}
    made = Manifest(kind="scorer", inputs={"policy": "0" * 64}, extra=verdict)
    with write_artifact(tmp_path / "export", made) as staging:
        (staging / "weights.bin").write_bytes(b"weights")
    return tmp_path / "export"


def test_what_was_signed_is_taken(folder: Path, tmp_path: Path) -> None:
    sign(folder, key_file(tmp_path))
    verify_signature(folder, key_file(tmp_path))
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    verify_signature(moved, key_file(tmp_path))
    assert check_released(folder, ServingConfig(key_file=str(key_file(tmp_path)))).kind == "scorer"


def test_what_was_not_signed_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not signed"):
        verify_signature(folder, key_file(tmp_path))
    with pytest.raises(ArtifactError, match="not signed"):
        check_released(folder, ServingConfig(key_file=str(key_file(tmp_path))))
    assert check_released(folder, ServingConfig()).kind == "scorer"


def test_content_with_hashes_that_fit_is_refused_under_an_old_signature(
    folder: Path, tmp_path: Path
) -> None:
    sign(folder, key_file(tmp_path))
    (folder / "weights.bin").write_bytes(b"others")
    reseal(folder, lambda manifest: manifest.extra.update(reasons=["mine"]))
    with pytest.raises(ArtifactError, match="another signature"):
        check_released(folder, ServingConfig(key_file=str(key_file(tmp_path))))


def test_another_key_or_another_artifact_is_refused(folder: Path, tmp_path: Path) -> None:
    sign(folder, key_file(tmp_path))
    with pytest.raises(ArtifactError, match="another signature"):
        verify_signature(folder, key_file(tmp_path, bytes(reversed(range(32)))))
    with write_artifact(tmp_path / "other", Manifest(kind="scorer")):
        pass
    shutil.copy(folder / SIGNATURE, tmp_path / "other" / SIGNATURE)
    with pytest.raises(ArtifactError, match="another signature"):
        verify_signature(tmp_path / "other", key_file(tmp_path))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"hmac-sha256": 7}', "\0", "[" * 9_999])
def test_a_signature_that_is_none_is_refused(folder: Path, tmp_path: Path, text: str) -> None:
    (folder / SIGNATURE).write_text(text)
    with pytest.raises(ArtifactError, match=r"signature"):
        verify_signature(folder, key_file(tmp_path))


def test_a_key_must_be_long_enough_and_private(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"at least 16 bytes"):
        sign(folder, key_file(tmp_path, b"short"))
    with pytest.raises(ConfigError, match="key-77"):
        sign(folder, tmp_path / "key-77")
    open_to_all = key_file(tmp_path)
    open_to_all.chmod(0o644)
    with pytest.raises(ConfigError, match=r"read by others.*chmod 600"):
        sign(folder, open_to_all)


def test_a_manifest_without_a_digest_cannot_be_signed(folder: Path, tmp_path: Path) -> None:
    text = (folder / MANIFEST).read_text().replace('"format_version": 2', '"format_version": 1')
    lines = [line for line in text.splitlines() if '"digest"' not in line]
    (folder / MANIFEST).write_text("\n".join(lines))
    with pytest.raises(ArtifactError, match="format version 1"):
        sign(folder, key_file(tmp_path))
