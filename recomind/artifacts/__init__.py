"""What the stages leave on disk: artifacts, and the files inside them."""

from recomind.artifacts.folder import (
    file_sha256,
    is_complete,
    read_manifest,
    sync_folder,
    write_artifact,
)
from recomind.artifacts.json_files import write_json
from recomind.artifacts.locks import holding, only_writer
from recomind.artifacts.manifest import FORMAT_VERSION, MANIFEST, Manifest, package_versions
from recomind.artifacts.tensors import load_tensors, save_tensors

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "Manifest",
    "file_sha256",
    "holding",
    "is_complete",
    "load_tensors",
    "only_writer",
    "package_versions",
    "read_manifest",
    "save_tensors",
    "sync_folder",
    "write_artifact",
    "write_json",
]
