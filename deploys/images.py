"""The Docker images: a Debian bootstrapped from the host's own mirror, the sandboxes on it, and Traefik.

Each tag is the hash of what goes into the image, so an image is built when that changes and at no other time.
"""

from __future__ import annotations

import hashlib
import io
import shlex
import tarfile
from collections.abc import Mapping, Sequence

from pyinfra.api import deploy
from pyinfra.operations import files

from deploys import ROOT
from deploys.certificates import authorities
from deploys.operations import image, place, when
from deploys.preflight import settings
from deploys.settings import Settings, Template

# What each Dockerfile may copy, from the project's root (`.dockerignore` says the same to `docker compose`).
CONTEXTS = {
    "sandbox": ("files/images/sandbox", "src/envd", "requirements/envd.txt"),
    "playwright": ("files/images/playwright",),
    "code-interpreter": ("files/images/code-interpreter", "src/interpreter", "requirements/interpreter.txt"),
    "traefik": ("files/images/traefik",),
}
UNTRUSTED = (
    "The build does not trust a server's certificate. Is there a proxy that inspects TLS? Then name its authority: "
    'SET="extra_ca_certificates=/path/of/its.crt"'
)


def context(name: str, certificates: Mapping[str, str]) -> dict[str, tuple[bytes, bool]]:
    """A build context as `path -> (content, executable)`: the files of the project, and the extra authorities."""
    found: dict[str, tuple[bytes, bool]] = {}
    for entry in CONTEXTS[name]:
        path = ROOT / entry
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                found[str(file.relative_to(ROOT))] = (file.read_bytes(), bool(file.stat().st_mode & 0o100))
    if name == "sandbox":
        for file_name, text in certificates.items():
            found[f"files/images/sandbox/ca/{file_name}"] = (text.encode(), False)
    return found


def digest(files: Mapping[str, tuple[bytes, bool]], *parts: object) -> str:
    """12 hex digits for names, contents and executable bits of `files`, and for `parts`."""
    hashed = hashlib.sha256(repr(parts).encode())
    for path, (content, executable) in sorted(files.items()):
        hashed.update(f"{path}\0{executable}\0{len(content)}\0".encode() + content)
    return hashed.hexdigest()[:12]


def archive(files: Mapping[str, tuple[bytes, bool]]) -> bytes:
    """`files` as a tar archive without times and owners: the same content gives the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, (content, executable) in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755 if executable else 0o644
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def build_command(tag: str, name: str, directory: str, arguments: Mapping[str, str]) -> str:
    """The shell command that builds a context with BuildKit. When the build fails it prints the end of the log, and the
    remedy for a proxy whose certificates nobody trusts; context and log are removed when it succeeded.
    """
    words = ["docker", "build", "--progress=plain", "--tag", tag]
    words += ["--file", f"{directory}/files/images/{name}/Dockerfile"]
    for key, value in arguments.items():
        if value:
            words += ["--build-arg", f"{key}={value}"]
    quoted = " ".join(shlex.quote(word) for word in [*words, directory])
    log = f"{directory}.log"
    failed = f"tail -n 60 {log} >&2; ! grep -qi 'certificate.verify.failed' {log} || echo {shlex.quote(UNTRUSTED)} >&2"
    return f"if DOCKER_BUILDKIT=1 {quoted} >{log} 2>&1; then rm -rf {directory} {log}; else {failed}; exit 1; fi"


class Tags:
    """The tags of all images of a host; each depends on the one that it is built from."""

    def __init__(self, wanted: Settings) -> None:
        self.wanted = wanted
        self.certificates = authorities(wanted)
        script = (ROOT / "templates/usr/local/lib/project-sandbox/bootstrap-base.j2").read_text()
        self.base = f"{wanted.project}-base:{wanted.base_suite}-{digest({}, script, sorted(self.certificates.items()))}"

    def below(self, template: Template) -> str:
        """The image that a template's sandbox image is built from."""
        return template.base_image or self.wanted.base_image or self.base

    def arguments(self, template: Template) -> dict[str, str]:
        """The build arguments of a template's sandbox image."""
        return {
            "BASE": self.below(template),
            "APT_PACKAGES": " ".join(template.apt_packages),
            "PIP_PACKAGES": " ".join(template.pip_packages),
            "NPM_PACKAGES": " ".join(template.npm_packages),
            "PYTHON_VERSION": template.python_version,
            "PYTHON_MIRROR": self.wanted.python_mirror if template.python_version else "",
        }

    def sandbox(self, template: Template) -> str:
        """The image with language runtimes and agent: the template's own, or what its browser image is built from."""
        arguments = self.arguments(template)
        suffix = digest(context("sandbox", self.certificates), sorted(arguments.items()))
        return f"{self.sandbox_name(template)}:{suffix}"

    def sandbox_name(self, template: Template) -> str:
        if template.context == "sandbox":
            return template.image
        plain = [other for other in self.wanted.templates.values() if other.context == "sandbox"]
        same = [other for other in plain if self.arguments(other) == self.arguments(template)]
        return same[0].image if same else f"{template.image}-parent"

    def template(self, template: Template) -> str:
        """The image of a template."""
        parent = self.sandbox(template)
        if template.context == "sandbox":
            return parent
        return f"{template.image}:{digest(context(template.context, {}), parent)}"

    @property
    def traefik(self) -> str:
        if self.wanted.traefik_image:
            return self.wanted.traefik_image
        return f"{self.wanted.project}-traefik:{digest(context('traefik', {}), self.base)}"


@deploy("Images")
def build() -> None:
    """Make the images that are missing. Images from a registry are pulled by the build that needs them."""
    wanted = settings()
    if not wanted.builds_images:
        return
    tags = Tags(wanted)
    work = f"{wanted.state}/build"
    files.directory(name=f"Make {work}", path=work, user="root", group="root", mode="700")
    place("usr/local/lib/project-sandbox/bootstrap-base", wanted, mode="755")

    if not wanted.traefik_image or any(tags.below(template) == tags.base for template in wanted.templates.values()):
        command = f"{wanted.lib}/bootstrap-base {wanted.base_suite} {tags.base}"
        image(name=f"Bootstrap {tags.base}", tag=tags.base, build=command)

    good = f"{wanted.opt}/good/config.toml"
    done: set[str] = set()
    for template in wanted.templates.values():
        parent = tags.sandbox(template)
        if parent not in done:
            _build(parent, "sandbox", work, tags.arguments(template), tags.certificates, good)
        if template.context != "sandbox" and tags.template(template) not in done:
            _build(tags.template(template), template.context, work, {"BASE": parent}, {}, good)
        done |= {parent, tags.template(template)}

    if wanted.traefik_image:
        image(name=f"Pull {wanted.traefik_image}", tag=tags.traefik, build=f"docker pull --quiet {tags.traefik}")
    else:
        _build(tags.traefik, "traefik", work, {"BASE": tags.base}, {}, good)

    left = f"ls -A {work}"
    when(name="Remove what builds that failed have left", condition=left, commands=[f"find {work} -mindepth 1 -delete"])


def _build(
    tag: str, name: str, work: str, arguments: Mapping[str, str], certificates: Mapping[str, str], spared: str
) -> None:
    directory = f"{work}/{tag.replace(':', '-').replace('/', '-')}"
    image(
        name=f"Build {tag}",
        tag=tag,
        build=build_command(tag, name, directory, arguments),
        context=lambda: archive(context(name, certificates)),
        directory=directory,
        spared=spared,
    )


def names(wanted: Settings) -> Sequence[str]:
    """The names, without tags, of all images that a deploy makes; `make destroy` removes them."""
    tags = Tags(wanted)
    own = {tags.sandbox_name(template) for template in wanted.templates.values()}
    return sorted(
        own
        | {template.image for template in wanted.templates.values()}
        | {f"{wanted.project}-base", f"{wanted.project}-traefik"}
    )
