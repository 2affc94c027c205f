"""A Python program of ours on the host: its code in a virtual environment of its own, with locked dependencies."""

from __future__ import annotations

import io
from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import FileUploadCommand, operation

from deploys import ROOT, facts
from deploys.images import archive
from deploys.operations import Commands


@dataclass(frozen=True)
class Program:
    """A package below src/, the lock file of what it needs, and the module whose import shows that all is there.

    `beside` are further packages in the same environment.
    """

    package: str
    lock: str
    module: str
    beside: tuple[str, ...] = ()

    @property
    def packages(self) -> tuple[str, ...]:
        return (self.package, *self.beside)

    def files(self) -> dict[str, tuple[bytes, bool]]:
        """What is brought to the host, by its path here."""
        places = [ROOT / "src" / package for package in self.packages]
        found = [path for place in places for path in place.rglob("*") if path.is_file() and path.suffix != ".pyc"]
        return {str(path.relative_to(ROOT)): (path.read_bytes(), False) for path in [*found, ROOT / self.lock]}


@operation()
def environment(link: str, version: str, program: Program, spared: str = "") -> Commands:
    """A virtual environment with the program in it at `<link>s/<version>`, to which `link` points once it is complete.

    The one before is kept until the next, and so is the one whose path is in the file `spared`: a failed upgrade goes
    back to it.
    """
    path, package = f"{link}s/{version}", program.package
    present = f"readlink {link} && {link}/bin/python -c 'import {package}'"
    if host.get_fact(facts.Output, command_line=present) == path:
        return
    upload = f"{path}.tar"
    content = io.BytesIO(archive(program.files()))
    yield f"rm -rf {path} && mkdir -p {path}"
    yield FileUploadCommand(content, upload, remote_temp_filename=host.get_temp_filename(upload))
    yield f"python3 -m venv {path}"
    yield f"tar -xf {upload} -C {path} && rm {upload}"
    python = f"{path}/bin/python"
    pip = f"{python} -m pip install --quiet --no-cache-dir --disable-pip-version-check"
    yield f"{pip} --require-hashes --requirement {path}/{program.lock}"
    site = f"$({python} -c 'import site; print(site.getsitepackages()[0])')"
    for one in program.packages:
        yield f'mv {path}/src/{one} "{site}" && {python} -m compileall -q "{site}/{one}"'
    yield f'{python} -c "import {program.module}"'
    yield (
        f"previous=$(readlink {link} || true); good=$(cat {spared or '/dev/null'} 2>/dev/null || true); "
        f"ln -sfn {path} {link}; "
        f"for old in {link}s/*; do case $old in {path}|$previous|$good) ;; *) rm -rf $old ;; esac; done"
    )
