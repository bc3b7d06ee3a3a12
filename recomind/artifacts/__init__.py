"""What the stages leave on disk: artifacts, and the files inside them."""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.artifacts.building import NoLargerThan
    from recomind.artifacts.checked_reading import brief, loads, reading
    from recomind.artifacts.disk import disk_full_error, is_disk_full, room_for
    from recomind.artifacts.folder import (
        file_sha256,
        is_complete,
        read_manifest,
        sync_folder,
        write_artifact,
    )
    from recomind.artifacts.json_files import read_json, write_json
    from recomind.artifacts.locks import holding, only_writer
    from recomind.artifacts.manifest import (
        FORMAT_VERSION,
        MANIFEST,
        READABLE_VERSIONS,
        Manifest,
        package_versions,
    )
    from recomind.artifacts.signing import sign, verify_signature
    from recomind.artifacts.sources import source_identity
    from recomind.artifacts.tensors import first_mismatch, load_tensors, save_tensors
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "READABLE_VERSIONS",
    "Manifest",
    "NoLargerThan",
    "brief",
    "disk_full_error",
    "file_sha256",
    "first_mismatch",
    "holding",
    "is_complete",
    "is_disk_full",
    "load_tensors",
    "loads",
    "only_writer",
    "package_versions",
    "read_json",
    "read_manifest",
    "reading",
    "room_for",
    "save_tensors",
    "sign",
    "source_identity",
    "sync_folder",
    "verify_signature",
    "write_artifact",
    "write_json",
]
