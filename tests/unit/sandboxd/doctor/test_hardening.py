"""Checks of what closes the host."""

import pytest

from sandboxd.doctor import hardening
from sandboxd.doctor.effects import Output
from sandboxd.doctor.readers import Readers
from tests.unit.sandboxd.doctor.conftest import FakeHost, Look

SYSCTLS = "etc/sysctl.d/60-acme-sandbox.conf"


@pytest.mark.parametrize("look", [hardening.docker_socket, hardening.kernel_parameters])
def test_a_healthy_host(readers: Readers, look: Look) -> None:
    assert look(readers).level == "ok"


def socket(host: FakeHost, stat: str, group: str = "docker:x:998:", passwd: str = "") -> None:
    answers = {"stat ": Output(0, stat), "getent group docker": Output(0, group), "getent passwd": Output(0, passwd)}
    host.outputs = {**answers, **{key: value for key, value in host.outputs.items() if key not in answers}}


def test_a_group_without_members_is_nobody(readers: Readers, host: FakeHost) -> None:
    socket(host, "root docker 660")
    verdict = hardening.docker_socket(readers)
    assert verdict.level == "ok" and "root:docker 660" in verdict.seen


def test_members_of_the_group_are_named_whichever_way_they_are_in_it(readers: Readers, host: FakeHost) -> None:
    socket(host, "root docker 660", "docker:x:998:ada,bob", "bob:x:1:1::/:/bin/sh\neve:x:2:998::/:/bin/sh")
    verdict = hardening.docker_socket(readers)
    assert verdict.level == "warn" and "ada, bob, eve may become root" in verdict.seen
    assert "gpasswd" in verdict.remedy and "docker_group = False" in verdict.remedy


def test_a_group_that_may_not_use_it_is_no_matter(readers: Readers, host: FakeHost) -> None:
    socket(host, "root docker 600", "docker:x:998:ada")
    assert hardening.docker_socket(readers).level == "ok"


@pytest.mark.parametrize("stat", ["root docker 666", "root docker 662", "ada docker 660"])
def test_a_socket_that_anybody_may_use(readers: Readers, host: FakeHost, stat: str) -> None:
    socket(host, stat)
    verdict = hardening.docker_socket(readers)
    assert verdict.level == "fail" and "root by it" in verdict.seen


def test_no_socket(readers: Readers, host: FakeHost) -> None:
    host.outputs = {"stat ": Output(1, "stat: cannot statx '/run/docker.sock': No such file"), **host.outputs}
    verdict = hardening.docker_socket(readers)
    assert verdict.level == "fail" and "No such file" in verdict.seen


def test_a_parameter_with_another_value(readers: Readers, host: FakeHost) -> None:
    host.write("proc/sys/kernel/yama/ptrace_scope", "0\n")
    verdict = hardening.kernel_parameters(readers)
    assert (verdict.level, verdict.seen) == ("warn", "kernel.yama.ptrace_scope = 0, not 1")
    assert f"sysctl --ignore --load /{SYSCTLS}" in verdict.remedy


def test_a_parameter_that_this_kernel_does_not_have(readers: Readers, host: FakeHost) -> None:
    (host.root / "proc/sys/kernel/yama/ptrace_scope").unlink()
    verdict = hardening.kernel_parameters(readers)
    assert verdict.level == "ok"
    assert verdict.seen == "1 of 2 are as wanted; this kernel does not have kernel.yama.ptrace_scope"


def test_none_are_wanted(readers: Readers, host: FakeHost) -> None:
    host.write(SYSCTLS, "# Written by the deploy.\n")
    assert hardening.kernel_parameters(readers).seen == "0 of 0 are as wanted"


def test_the_file_is_gone(readers: Readers, host: FakeHost) -> None:
    (host.root / SYSCTLS).unlink()
    assert hardening.kernel_parameters(readers).level == "fail"
