"""Every exception zsd raises on purpose.

::

    ZsdError                    exit code 1: the job failed
    ├── InputError              exit code 2: what the user gave is wrong
    │   ├── ConfigError         an option, a TOML key, a flag
    │   ├── CorpusError         a file, a column, a format
    │   ├── LabelSetError       class names or the hypothesis template
    │   ├── TeacherError        a checkpoint that is no NLI model, or cannot be loaded
    │   ├── StudentError        a checkpoint that is no classifier, or cannot be loaded
    │   └── OutputError         an output directory that belongs to a different job
    ├── StoreError              a store on disk is damaged (`zsd verify` names what)
    ├── EngineError             an engine cannot run this model on this machine
    ├── GateError               exit code 3: tonight's student is refused, the one in production stays
    └── LockError               exit code 4: another run holds the lock of the registry

A message is one line: it names the input and says what to do. The command line prints it
after ``zsd: error:`` without a traceback and exits with the class's ``exit_code``.
"""


class ZsdError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1


class InputError(ZsdError):
    """The user's input is wrong; running again without changing it cannot help."""

    exit_code = 2


class ConfigError(InputError):
    """An option, a TOML key or a command-line flag is wrong."""


class CorpusError(InputError):
    """A corpus file, column or format is wrong."""


class LabelSetError(InputError):
    """The class names or the hypothesis template are wrong."""


class TeacherError(InputError):
    """The teacher is not an NLI model, or cannot be loaded."""


class StudentError(InputError):
    """The student is not a sequence classifier, or cannot be loaded."""


class OutputError(InputError):
    """The output directory belongs to a different job."""


class StoreError(ZsdError):
    """A store on disk is damaged or incomplete."""


class EngineError(ZsdError):
    """An engine cannot run this model on this machine."""


class GateError(ZsdError):
    """The gate refused a student; running again without other data or bounds cannot help."""

    exit_code = 3


class LockError(ZsdError):
    """Another run holds the lock, or has taken it over; running again later can help."""

    exit_code = 4


def in_one_line(error: BaseException) -> str:
    """What an error of another library says, on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]


def error_named(name: str, message: str) -> ZsdError:
    """The error whose class has this name: how one that another process raised travels as data."""
    error: ZsdError = globals()[name](message)
    return error
