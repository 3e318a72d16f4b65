"""Every error that attnrec raises on purpose.

A wrong argument is a plain ``ValueError``. The rest derive from one root, so that an
application can catch them together::

    AttnrecError
    ├── DataError         an interaction log that cannot be used
    ├── RunError          a run directory that is missing, incomplete or of another kind
    ├── ModelFileError    a file that is not an intact attnrec model
    ├── ParityError       an exported file that does not answer like its torch model
    └── SelfTestError     a loaded file that does not reproduce its own golden vectors

`counted` and `kind_of_ids` are wording that messages share.
"""


class AttnrecError(Exception):
    """Root of all attnrec errors."""


class DataError(AttnrecError):
    """An interaction log cannot be used; the message names file, column, row and remedy.

    remedy: a setting that would help, its name in backticks. It is kept apart because nothing can
    be set where a log is read by the recipe of a model file.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem
        """The message without the remedy."""


class RunError(AttnrecError):
    """A run directory is missing, incomplete, or belongs to another configuration."""


class ModelFileError(AttnrecError):
    """A file is not an intact attnrec model, or this machine cannot run it."""


class ParityError(AttnrecError):
    """An exported file does not answer like its torch model; nothing was written."""


class SelfTestError(AttnrecError):
    """A loaded file does not reproduce its own golden vectors on this machine."""


def counted(n: int, what: str) -> str:
    """As in "1 user" and "2,000 users"."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def kind_of_ids(id_type: str) -> str:
    """The word of messages for ids of that type."""
    return "text" if id_type == "string" else id_type
