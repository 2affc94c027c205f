"""Why an execution ends without its kernel's own answer. Touches nothing."""


class KernelError(Exception):
    """A kernel that did not start, or did not live until the end of what it was told to run."""


class KernelDied(KernelError):
    """The kernel ended, or was ended, while it ran something."""
