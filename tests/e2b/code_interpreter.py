"""E2B's code interpreter client."""

from typing import Any

from e2b_code_interpreter import Sandbox
from report import features_of, main


def create() -> Sandbox:
    return Sandbox.create(timeout=300)


def feature_results_output_and_errors() -> None:
    with create() as sandbox:
        done = sandbox.run_code("import os, sys\nprint('out')\nprint('err', file=sys.stderr)\n6 * 7")
        assert (done.text, done.logs.stdout, done.logs.stderr) == ("42", ["out\n"], ["err\n"]), done
        assert done.error is None
        failed: Any = sandbox.run_code("1 / 0").error
        assert failed.name == "ZeroDivisionError" and "division by zero" in failed.value and failed.traceback


def feature_variables_stay_in_their_context() -> None:
    with create() as sandbox:
        sandbox.run_code("x = 1")
        assert sandbox.run_code("x + 1").text == "2"
        other = sandbox.create_code_context(cwd="/tmp")
        missing: Any = sandbox.run_code("x", context=other).error
        assert missing.name == "NameError"
        assert sandbox.run_code("import os; os.getcwd()", context=other).text == "/tmp"


def feature_charts_are_pictures() -> None:
    with create() as sandbox:
        done = sandbox.run_code("import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()")
        pictures = [one.png for one in done.results if one.png]
        assert pictures and pictures[0].startswith("iVBOR"), done


def feature_other_languages() -> None:
    with create() as sandbox:
        assert sandbox.run_code("console.log(6 * 7)", language="js").logs.stdout == ["42\n"]
        assert sandbox.run_code("echo $((6 * 7))", language="bash").logs.stdout == ["42\n"]


def feature_output_as_it_comes_and_variables_of_the_environment() -> None:
    with create() as sandbox:
        shown: list[str] = []
        code = "import os, time\nfor _ in range(3):\n    print(os.environ['WHO'], flush=True)\n    time.sleep(0.1)"
        sandbox.run_code(code, envs={"WHO": "me"}, on_stdout=lambda line: shown.append(line.line))
        assert "".join(shown) == "me\nme\nme\n", shown


def feature_contexts_are_listed_restarted_and_removed() -> None:
    with create() as sandbox:
        made = sandbox.create_code_context(language="python")
        assert made.id in [one.id for one in sandbox.list_code_contexts()]
        sandbox.run_code("x = 1", context=made)
        sandbox.restart_code_context(made)
        missing: Any = sandbox.run_code("x", context=made).error
        assert missing.name == "NameError"
        sandbox.remove_code_context(made)
        assert made.id not in [one.id for one in sandbox.list_code_contexts()]


def feature_packages_installed_meanwhile() -> None:
    """By a command, as `user`, and imported by a kernel that runs already."""
    with create() as sandbox:
        sandbox.run_code("1")
        sandbox.commands.run("pip install --quiet tomlkit==0.13.3 2>&1", timeout=120)
        assert sandbox.run_code("import tomlkit; tomlkit.__name__").text == "tomlkit"


def feature_files_and_commands_beside_it() -> None:
    with create() as sandbox:
        sandbox.files.write("/home/user/data.csv", "a,b\n1,2\n")
        assert sandbox.run_code("import pandas; int(pandas.read_csv('data.csv').b[0])").text == "2"
        assert sandbox.commands.run("whoami").stdout == "user\n"


if __name__ == "__main__":
    main(features_of(globals()))
