"""`make bench`: measures a deployed host beside plain Docker in the same run.

`host` is sent to the host and runs there; `table` prints what comes back; `__main__` does both. Meant for a host that
nobody uses meanwhile: it loads the machine and restarts the Docker engine.
"""
