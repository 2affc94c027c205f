"""Programs for E2B's unmodified clients. tests/host/test_e2b.py runs them on a lab, each with several releases."""
