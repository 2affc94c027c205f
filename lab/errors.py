"""What can go wrong with a lab. Every message ends with what to do; `exit_code` is what the command line returns."""


class LabError(Exception):
    """A lab could not be made, reached or removed."""

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}\n  {remedy}" if remedy else problem)


class UsageError(LabError):
    """An argument that no lab can have."""

    exit_code = 2


class NoSuchLab(LabError):
    """No lab of that name belongs to this working copy."""

    exit_code = 3


class NoEngine(LabError):
    """No Docker engine answers and this user cannot start one."""

    exit_code = 4
