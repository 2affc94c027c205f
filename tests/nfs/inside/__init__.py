"""What runs in the virtual machine: pure Python of the standard library and of `src`."""
