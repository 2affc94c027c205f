"""The half of the measurements that runs on the host, as root, out of one zip file: standard library only."""
