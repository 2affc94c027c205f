"""What goes into the image of a lab, and its name, as values: packages, our files, the commands of both builders.

Reads `lab/rootfs/` and the workstation's CA certificates. `lab.build` performs it.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.mirror import Mirror
from lab.registries import Registries
from lab.settings import CA_DIRS, LABEL_IMAGE, PACKAGES, PREFIX, ROOTFS_DIR

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PROVISION = "/usr/lib/lab/provision"
MMDEBSTRAP = "mmdebstrap"
DOCKER_BUILD = "docker build"


def certificates(directories: Iterable[Path] = CA_DIRS) -> dict[str, bytes]:
    """Return the workstation's private certificate authorities by the path that they get in a lab."""
    found = {}
    for directory in directories:
        for path in sorted(directory.rglob("*")):
            if path.suffix in (".crt", ".pem") and path.is_file():
                name = "-".join(path.relative_to(directory).with_suffix("").parts)
                found[f"usr/local/share/ca-certificates/{name}.crt"] = path.read_bytes()
    return found


def pack(rootfs: Path, others: Mapping[str, bytes]) -> bytes:
    """Return a tar of `rootfs` and of `others` (by path), the same bytes whoever packs it and whenever."""
    entries = {str(path.relative_to(rootfs)): path.read_bytes() for path in rootfs.rglob("*") if path.is_file()}
    entries |= others
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(entries.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            # Git keeps no modes but this bit; a umask must not make another image.
            member.mode = 0o755 if content.startswith(b"#!") else 0o644
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@dataclass(frozen=True)
class ImageSpec:
    """Everything that decides what the image contains."""

    suite: str
    builder: str
    sources: tuple[str, ...]
    files: bytes
    packages: tuple[str, ...] = PACKAGES

    @property
    def tag(self) -> str:
        """Name of the image; another content is another name, so a name that exists need not be built."""
        recipe = [self.mmdebstrap("files.tar", None), self.dockerfile(), self.builder]
        digest = hashlib.sha256(json.dumps(recipe).encode() + self.files).hexdigest()
        return f"{PREFIX}:{self.suite}-{digest[:12]}"

    def mmdebstrap(self, files: str, keyring: Path | None) -> list[str]:
        """Return the command that writes the root file system as a tar to its standard output."""
        return [
            "mmdebstrap",
            "--variant=minbase",
            "--format=tar",
            f"--include={','.join(self.packages)}",
            # No fsync per file, in the lab either: what a power cut loses here, nobody misses.
            "--dpkgopt=force-unsafe-io",
            *([f"--keyring={keyring}"] if keyring else []),
            f"--customize-hook=tar-in {files} /",
            f'--customize-hook=chroot "$1" {PROVISION}',
            self.suite,
            "-",
            *self.sources,
        ]

    def dockerfile(self) -> str:
        """Return the Dockerfile that makes about the same from a registry's image. Its context holds `files.tar`."""
        return (
            f"FROM debian:{self.suite}\n"
            "RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends"
            f" {' '.join(self.packages)} && rm -rf /var/lib/apt/lists/*\n"
            "ADD files.tar /\n"
            f"RUN {PROVISION}\n"
        )


def label(suite: str) -> str:
    """Return the label of every image of `suite`, by which those that nobody needs any more are found."""
    return f"{LABEL_IMAGE}={suite}"


def docker_build(spec: ImageSpec, context: str, variables: Iterable[str] = ()) -> list[str]:
    """Return the command that builds `context`, a directory with `Dockerfile` and `files.tar`.

    `variables` are names of proxy variables, whose values it takes from its own environment.
    """
    passed = [f"--build-arg={name}" for name in sorted(variables)]
    return ["docker", "build", "--tag", spec.tag, "--label", label(spec.suite), *passed, context]


def spec(
    suite: str,
    builder: str,
    mirror: Mirror,
    registries: Registries,
    rootfs: Path = ROOTFS_DIR,
    ca_dirs: Sequence[Path] = CA_DIRS,
) -> ImageSpec:
    """Read what goes into an image of `suite` on this workstation."""
    trusted = certificates(ca_dirs)
    told = {path: text.encode() for path, text in registries.files(bool(trusted)).items()}
    return ImageSpec(suite, builder, tuple(mirror.sources(suite)), pack(rootfs, trusted | told))
