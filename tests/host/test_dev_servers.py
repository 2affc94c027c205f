"""What people develop with, as it comes: servers on localhost with their default settings, reached by URL."""

from tests.host.machine import Machine, eventually

PAGE = '<!doctype html><title>Page</title><div id="app"></div><script type="module" src="/main.js"></script>'
SCRIPT = 'document.querySelector("#app").textContent = "made by Vite";'
API = """
from fastapi import FastAPI

app = FastAPI()


@app.get("/api/hello")
def hello():
    return {"hello": "from FastAPI"}
"""


def test_vite_and_fastapi_in_one_sandbox(machine: Machine) -> None:
    name = "fullstack-vue-fastapi-node22"  # what agents ask for when they build such an app
    template = name if name in machine.settings.templates else machine.settings.default_template
    with machine.sandbox(f"--template {template}") as sandbox:
        for name, text in (("index.html", PAGE), ("main.js", SCRIPT), ("api.py", API)):
            machine.run(f"docker-sandbox upload {sandbox.id} - /code/app/{name}", stdin=text.encode())
        sandbox.run("exec vite >vite.log 2>&1", "--background --cwd /code/app")
        sandbox.run("exec uvicorn api:app >api.log 2>&1", "--background --cwd /code/app")
        page = machine.out(f"docker-sandbox get-host {sandbox.id} --port 5173")
        api = machine.out(f"docker-sandbox get-host {sandbox.id} --port 8000")
        for url, wanted in (
            (page, "/@vite/client"),
            (f"{page}/main.js", "made by Vite"),
            (f"{api}/api/hello", "FastAPI"),
        ):
            answer = eventually(
                lambda asked=url: machine.request("GET", asked),  # type: ignore[misc]
                lambda answer: answer.status_code != 502,
                30,
                f"server behind {url}",
            )
            assert answer.status_code == 200 and wanted in answer.text, answer.text
        assert "127.0.0.1:5173" in sandbox.out("ss -ltn") and "127.0.0.1:8000" in sandbox.out("ss -ltn")
