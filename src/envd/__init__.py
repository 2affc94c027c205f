"""The agent inside every sandbox: processes and files over E2B's data-plane protocol, on one TCP port."""
