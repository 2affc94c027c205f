"""What E2B's clients can do, row by row, and which features of tests/e2b show that it works here.

This is the one place to add to: a feature that is new in a program of tests/e2b belongs into a row here, under its name
without `feature_`; the same name in several programs is one entry. A row of which nothing is shown says why.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """`calls` are the client's, in Python's spelling. Either `features` or, for what is left out, the `reason`."""

    what: str
    calls: str
    features: tuple[str, ...] = ()
    reason: str = ""


ROWS = (
    Row(
        "create",
        "`Sandbox.create(template, timeout, metadata, envs)`",
        ("create_info_kill", "as_a_context", "create_list_info_kill"),
    ),
    Row("many creates at once", "`Sandbox.create` in 8 and 30 threads", ("many_at_once", "many_creates_at_once")),
    Row("connect", "`Sandbox.connect(id)`, `sandbox.connect()`", ("connect_only_extends", "connect_and_list")),
    Row("kill", "`sandbox.kill()`, `Sandbox.kill(id)`", ("create_info_kill", "create_list_info_kill")),
    Row(
        "list, its filters and pages",
        "`Sandbox.list(query, limit)`",
        ("list_by_metadata", "list_filters", "connect_and_list"),
    ),
    Row("information", "`get_info()`", ("create_info_kill", "create_list_info_kill")),
    Row("timeout and expiry", "`set_timeout()`, `create(timeout=)`", ("set_timeout", "expiry")),
    Row("pause and resume", "`pause()` (`beta_pause()`), `Sandbox.connect(id)`", ("pause_and_resume",)),
    Row("whether it runs", "`is_running()`", ("create_info_kill", "expiry", "pause_and_resume")),
    Row("metrics and logs", "`get_metrics()`; `e2b sandbox logs`", ("metrics", "logs_and_metrics")),
    Row("public URLs", "`get_host(port)`", ("preview_of_a_port", "plain_http_previews_lead_to_https")),
    Row("signed URLs", "`upload_url()`, `download_url()`", ("signed_urls",)),
    Row(
        "commands",
        "`commands.run(cmd, envs, cwd, user, timeout, on_stdout)`",
        ("commands", "many_commands_at_once", "a_command_has_a_deadline", "exec"),
    ),
    Row(
        "commands in the background",
        "`commands.run(background=True)`, `connect`, `list`, `kill`",
        ("background_commands", "a_background_server_outlives_its_client", "exec"),
    ),
    Row("commands that say nothing for long", "`commands.run`, quiet for 70 s", ("a_quiet_command",)),
    Row(
        "kill of a sandbox while a command runs",
        "`handle.wait()` raises",
        ("killing_a_sandbox_breaks_its_commands", "kill_during_a_command_is_told_at_once"),
    ),
    Row("standard input", "`commands.send_stdin()`, `close_stdin()`", ("stdin", "commands", "exec")),
    Row("terminals", "`pty.create`, `send_stdin`, `kill`; `e2b sandbox connect`", ("pty", "a_terminal")),
    Row(
        "files",
        "`files.read`, `write`, `list`, `exists`, `get_info`, `remove`, `rename`, `make_dir`",
        ("files", "files_and_commands_beside_it"),
    ),
    Row(
        "many files, large files",
        "`files.write_files()`, `read(format='stream')`",
        ("many_files_at_once", "a_large_file_is_streamed"),
    ),
    Row("metadata of files", "`files.write(metadata=)`", ("metadata_of_files",)),
    Row("watching directories", "`files.watch_dir()`", ("watch_a_directory",)),
    Row("git", "`git.*`", ("git_with_a_daemon",)),
    Row("code interpreter: results", "`run_code(code)`", ("results_output_and_errors", "charts_are_pictures")),
    Row(
        "code interpreter: contexts",
        "`create_code_context`, `list_`, `restart_`, `remove_code_context`",
        ("variables_stay_in_their_context", "contexts_are_listed_restarted_and_removed"),
    ),
    Row("code interpreter: languages", "`run_code(language=)`: python, js, ts, bash", ("other_languages",)),
    Row(
        "code interpreter: callbacks, variables, packages",
        "`run_code(on_stdout=, envs=)`, `pip install` in between",
        ("output_as_it_comes_and_variables_of_the_environment", "packages_installed_meanwhile"),
    ),
    Row(
        "building templates",
        "`Template.build`: steps, files, users, start and ready commands, limits",
        ("template_build", "template_steps", "template_again_and_on_itself", "template_that_fails"),
    ),
    Row(
        "building in the background",
        "`Template.build_in_background`, `get_build_status`",
        ("template_build_in_background",),
    ),
    Row("whether there is a template", "`Template.exists` (`alias_exists`)", ("template_exists",)),
    Row(
        "building from a Dockerfile",
        "`from_dockerfile()`, `from_base_image()`; `e2b template create`",
        ("template_from_dockerfile", "template_from_base_image", "template_create_list_delete"),
    ),
    Row("listing and deleting templates", "`e2b template list`, `delete`", ("template_create_list_delete",)),
    Row("snapshots, of files", "`create_snapshot()`, `delete_snapshot()`", ("snapshot",)),
    Row(
        "what the base template has in it",
        "python, pip, node, git, sudo",
        ("programs_of_the_base_template", "pip_installs_for_the_user"),
    ),
    Row(
        "templates that skills ask for",
        "`Sandbox.create('fullstack-vue-fastapi-node22')`, `-lite`, `-max`",
        ("templates_under_the_names_that_skills_ask_for",),
    ),
    Row(
        "a skill's workflow: build, host and test an app",
        "create for 12 h; then each command a process that connects, as `sbx` does",
        ("plan_build_host_test",),
    ),
    Row("errors", "wrong key, unknown template, unknown sandbox", ("errors",)),
    Row("no internet", "`create(allow_internet_access=False)`", ("no_internet",)),
    Row(
        "networks that are allowed or denied",
        "`create(network={'allow_out': …, 'deny_out': …})`, `update_network()`",
        ("network",),
    ),
    Row("private traffic", "`create(network={'allow_public_traffic': False})`", ("private_traffic",)),
    Row(
        "the host name that servers see",
        "`create(network={'mask_request_host': …})`",
        ("host_name_of_requests",),
    ),
    Row(
        "auto-resume",
        "`create(lifecycle={'on_timeout': 'pause', 'auto_resume': True})`",
        ("requests_resume_a_sandbox",),
    ),
    Row("volumes and their content", "`Volume.*`, `create(volume_mounts=)`", ("volumes", "volumes_and_fork")),
    Row("fork, of files", "`sandbox.fork()`", ("fork", "volumes_and_fork")),
    Row("tags of templates", "`Template.assign_tags`, `remove_tags`, `get_tags`", ("template_tags",)),
    Row(
        "templates of images",
        "`from_image('node:22')`, `from_python_image()`, `from_aws_registry()`",
        ("template_of_an_image",),
    ),
    Row(
        "a restart of the server",
        "what was created, its token and its commands go on",
        ("a_restart_of_the_server_is_not_noticed",),
    ),
    Row(
        "by URLs in place of the domain",
        "`E2B_API_URL=https://api.DOMAIN`, `E2B_SANDBOX_URL=https://sandbox.DOMAIN`",
        ("one_origin_for_all_sandboxes",),
    ),
    Row(
        "memory in snapshots", "`create_snapshot(memory=True)`", reason="A container's memory cannot be kept; files are"
    ),
    Row("MCP gateway", "`create(mcp=)`", reason="The gateway is E2B's own program. Refused with 400"),
    Row(
        "names in denied networks, DNS servers",
        "`network={'deny_out': ['example.com']}`",
        reason="Addresses and CIDRs only; names can be allowed. Refused with 400, never silently ignored",
    ),
    Row(
        "secrets, IAM, egress proxy, header rules",
        "`Secret.create`, `create(iam=)`, `network.rules`",
        reason="Credentials that E2B's own network puts into requests; nothing here does that. Refused with 400 or 404",
    ),
    Row(
        "kernels for R and Java",
        "`run_code(language='r')`",
        reason="Not in the image; an error that names the languages there are",
    ),
    Row("dashboard", "teams, webhooks, public templates", reason="Not part of a host"),
)
