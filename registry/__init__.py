"""How bytes travel: OCI references, manifests, layouts and registries."""

from registry.artifact import PluginArtifact, is_stem, read_artifact
from registry.auth import Anonymous, Credential, CredentialSource, Given
from registry.cache import BlobCache
from registry.cache_folder import CacheEntry
from registry.credentials import CredentialFiles
from registry.deadline import Timing
from registry.digest import copy_verified, parse_digest, sha256_digest
from registry.docker_config import DockerConfig
from registry.errors import (
    AuthenticationError,
    BusyError,
    ContentError,
    NetworkError,
    NotFoundError,
    ReferenceFormatError,
    RegistryError,
    TagMovedError,
    UnsignedError,
)
from registry.kept import KeptConnections
from registry.layout import LayoutRepository
from registry.login import check_login
from registry.mirrors import mirror_of
from registry.model import Descriptor, Manifest
from registry.opening import open_repository
from registry.parallel import Wanted, fetch_all
from registry.publish import ArtifactInput, BuiltArtifact, build_artifact, push_artifact
from registry.reference import (
    Bases,
    HttpLocation,
    LayoutLocation,
    Location,
    Reference,
    locate,
    parse_host,
    parse_location,
    parse_reference,
)
from registry.repository import Files, Progress, Readable, Repository, Writable
from registry.settings import HttpSettings
from registry.version_tags import tag_to_version, version_to_tag

__all__ = [
    "Anonymous",
    "ArtifactInput",
    "AuthenticationError",
    "Bases",
    "BlobCache",
    "BuiltArtifact",
    "BusyError",
    "CacheEntry",
    "ContentError",
    "Credential",
    "CredentialFiles",
    "CredentialSource",
    "Descriptor",
    "DockerConfig",
    "Files",
    "Given",
    "HttpLocation",
    "HttpSettings",
    "KeptConnections",
    "LayoutLocation",
    "LayoutRepository",
    "Location",
    "Manifest",
    "NetworkError",
    "NotFoundError",
    "PluginArtifact",
    "Progress",
    "Readable",
    "Reference",
    "ReferenceFormatError",
    "RegistryError",
    "Repository",
    "TagMovedError",
    "Timing",
    "UnsignedError",
    "Wanted",
    "Writable",
    "build_artifact",
    "check_login",
    "copy_verified",
    "fetch_all",
    "is_stem",
    "locate",
    "mirror_of",
    "open_repository",
    "parse_digest",
    "parse_host",
    "parse_location",
    "parse_reference",
    "push_artifact",
    "read_artifact",
    "sha256_digest",
    "tag_to_version",
    "version_to_tag",
]
