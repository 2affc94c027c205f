"""Templates, by the synchronous Python client: what `Template` can do beside a plain build."""

import inspect
import tempfile
import time
from pathlib import Path
from typing import Any

import e2b
from e2b import Sandbox, Template
from report import Absent, features_of, main, raises

# Releases until 2.9 call the name an alias.
NAMED = "name" if "name" in inspect.signature(Template.build).parameters else "alias"


def build(template: Any, name: str, **options: Any) -> Any:
    return Template.build(template, **{NAMED: name}, memory_mb=512, **options)


def output_of(template: str, command: str) -> str:
    with Sandbox.create(template=template, timeout=120) as sandbox:
        return str(sandbox.commands.run(command).stdout)


def feature_template_build_in_background() -> None:
    template = Template().from_template("base").run_cmd("echo built in the background >~/built.txt")
    made = Template.build_in_background(template, **{NAMED: "conformance-background"}, memory_mb=512)
    status: Any = None
    lines: list[str] = []
    deadline = time.monotonic() + 120
    while status is None or status.status.value in ("waiting", "building"):
        assert time.monotonic() < deadline, status
        status = Template.get_build_status(made, logs_offset=len(lines))
        lines += [entry.message for entry in status.log_entries]
        time.sleep(0.2)
    assert status.status.value == "ready", status
    assert any("built in the background" in line for line in lines), lines
    assert output_of("conformance-background", "cat built.txt") == "built in the background\n"


def feature_template_exists() -> None:
    ask = getattr(Template, "exists", getattr(Template, "alias_exists", None))
    if ask is None:
        raise Absent("the client cannot ask for a template")
    assert ask("base") is True
    assert ask("no-such-template") is False


def feature_template_from_base_image() -> None:
    build(Template().from_base_image().set_workdir("/srv/app").run_cmd("sudo touch here"), "conformance-base")
    assert output_of("conformance-base", "ls /srv/app") == "here\n"


def feature_template_from_dockerfile() -> None:
    text = """
        FROM base
        ENV GREETING="hello you"
        WORKDIR /srv/app
        COPY page.txt pages/
        RUN cat pages/page.txt >copy.txt && echo $GREETING >>copy.txt
        CMD python3 -m http.server 8123 --directory /srv/app
    """
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "page.txt").write_text("the page\n")
        lines = "\n".join(line.strip() for line in text.strip().splitlines())
        build(Template(file_context_path=directory).from_dockerfile(lines), "conformance-dockerfile")
    seen = "cat /srv/app/copy.txt; curl -s --retry 20 --retry-delay 1 --retry-connrefused 127.0.0.1:8123/copy.txt"
    assert output_of("conformance-dockerfile", seen) == "the page\nhello you\n" * 2


def feature_template_steps() -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "run.sh").write_text("#!/bin/sh\necho ran\n")
        template = (
            Template(file_context_path=directory)
            .from_template("base")
            .copy("run.sh", "/usr/local/bin/run-it", mode=0o755)
            .make_dir("made/deep")
            .run_cmd(["echo one >made/one", "echo two >made/two"])
            .rename("made/two", "made/three")
            .remove("made/one")
            .make_symlink("made", "link")
            .set_user("root")
            .set_workdir("/root")
            .run_cmd("whoami >/srv/who; pwd >>/srv/who")
            .set_user("user")
        )
        build(template, "conformance-steps")
    shown = output_of("conformance-steps", "run-it; ls link; cat /srv/who")
    assert shown == "ran\ndeep\nthree\nroot\n/root\n", shown


def feature_template_again_and_on_itself() -> None:
    """A name is built again with something else, and on a template that was built before."""
    build(Template().from_template("base").run_cmd("echo 1 >~/n"), "conformance-again")
    build(Template().from_template("base").run_cmd("echo 2 >~/n"), "conformance-again")
    build(Template().from_template("conformance-again").run_cmd("echo 3 >>~/n"), "conformance-on-it")
    assert output_of("conformance-again", "cat n") == "2\n"
    assert output_of("conformance-on-it", "cat n") == "2\n3\n"


def feature_template_that_fails() -> None:
    said: list[str] = []
    template = Template().from_template("base").run_cmd("echo before").run_cmd("echo why it fails >&2; exit 7")
    error = raises(
        e2b.BuildException, build, template, "conformance-fails", on_build_logs=lambda one: said.append(one.message)
    )
    assert "exit code: 7" in str(error), error
    assert any("why it fails" in line for line in said), said
    raises(Exception, Sandbox.create, template="conformance-fails")


def feature_template_of_an_image() -> None:
    """Images of a registry are refused, with what to do instead."""
    for template in (Template().from_python_image("3"), Template().from_dockerfile("FROM node:22\nRUN true\n")):
        error = raises(e2b.BuildException, build, template, "conformance-image")
        assert "from_template('base')" in str(error), error
    raises(Exception, Sandbox.create, template="conformance-image")


if __name__ == "__main__":
    main(features_of(globals()))
