import sys
from pathlib import Path

import pytest

from envd.config import AgentConfig
from envd.errors import EnvdError
from envd.spawn import OOM_SCORE, credentials, environment, expendable, working_directory
from envd.users import User, find_user

SOMEBODY = User("somebody", 1000, 1000, (1000,), "/home/somebody")


def test_the_environment_in_its_order() -> None:
    image = {
        "PATH": f"{sys.prefix}/bin:/usr/bin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "VIRTUAL_ENV": sys.prefix,
        "ENVD_ACCESS_TOKEN": "t",
        "ENVD_AGENT_FILE": "f",
        "ENVD_LISTEN": "l",
    }
    config = AgentConfig(access_token="t", sandbox_id="abc", template_id="base", envs={"A": "sandbox", "B": "sandbox"})
    assert environment(image, config, SOMEBODY, {"B": "request"}) == {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/home/somebody",
        "USER": "somebody",
        "LOGNAME": "somebody",
        "E2B_SANDBOX": "true",
        "E2B_SANDBOX_ID": "abc",
        "E2B_TEMPLATE_ID": "base",
        "A": "sandbox",
        "B": "request",
    }
    assert environment({}, config, SOMEBODY, {})["PATH"].endswith(":/sbin:/bin")


def test_the_working_directory(tmp_path: Path) -> None:
    here = AgentConfig(access_token="t", workdir=str(tmp_path))
    assert working_directory(None, here, SOMEBODY) == str(tmp_path)
    (tmp_path / "sub").mkdir()
    assert working_directory("sub", here, SOMEBODY) == str(tmp_path / "sub")
    with pytest.raises(EnvdError, match=f"cwd '{tmp_path}/none' does not exist"):
        working_directory("none", here, SOMEBODY)
    gone = AgentConfig(access_token="t", workdir=str(tmp_path / "none"))
    assert working_directory(None, gone, SOMEBODY) == "/"


def test_only_another_user_needs_credentials(myself: User) -> None:
    nobody = find_user("nobody")
    assert credentials(myself) == {}
    assert credentials(nobody) == {"user": nobody.uid, "group": nobody.gid, "extra_groups": nobody.groups}


def test_the_agent_itself_is_not_expendable() -> None:
    before = Path(OOM_SCORE).read_text()
    with expendable():
        assert int(Path(OOM_SCORE).read_text()) == 500
    assert Path(OOM_SCORE).read_text() == before
