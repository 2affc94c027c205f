"""A command in a sandbox on behalf of the host: by its agent, through the gateway, as `docker-sandbox exec` runs it."""

from collections.abc import Callable

from sandboxd.cli.agent import Agent
from sandboxd.cli.execute import exit_code
from sandboxd.config import Config
from sandboxd.records import Sandbox
from sandboxd.tokens import agent_token

COMMAND_S = 20.0  # without a word from the agent

Execute = Callable[[Sandbox, str, bool], bool]


def through_gateway(config: Config, key: bytes) -> Execute:
    """Runs a command by the agent: true when it ended with 0, or, in the background, as soon as it runs.

    Raises SandboxdError when gateway or agent do not answer, or refuse.
    """

    def execute(row: Sandbox, command: str, background: bool) -> bool:
        where = {"sandboxID": row.id, "envdAccessToken": agent_token(key, row.id), "domain": config.domain}
        agent = Agent(config.gateway.address, where)
        process = {"cmd": "/bin/bash", "args": ["-l", "-c", command]}
        connection = agent.connect()
        connection.socket.settimeout(COMMAND_S)
        try:
            for event in agent.start(connection, {"process": process, "stdin": False}):
                if background:
                    return True
                if end := event.get("end"):
                    return exit_code(end) == 0
        except OSError as error:
            raise agent.broken(error) from error
        finally:
            connection.close()
        return False

    return execute
