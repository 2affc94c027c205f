"""`python3 -m tools.fleetsim`: what a fleet of up to 1,000 hosts would do, by the times that were measured on three.

`scene` is what is asked, `times` what was measured; `nodes`, `views` and `raft` are the parts, `policies` who gets
what; `simulation` lets time run, `results` counts, `table` and `__main__` print. Standard library only; no host is
touched.
"""
