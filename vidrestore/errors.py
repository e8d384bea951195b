"""Everything that vidrestore raises on purpose.

VidrestoreError
├── InputError          bad input: the message names the file, what is wrong and what to do (exit code 2)
│   ├── SourceError     the source video or image cannot be used
│   ├── TargetError     the output cannot be written there
│   ├── WeightsError    a model is unknown, missing, damaged or not what it says it is
│   └── OptionsError    a configuration file or flag is wrong
├── RestoreError        a failure that is not the user's (exit code 1)
└── OutOfDeviceMemory   a batch did not fit; the stage that batches halves it and goes on

Every message is one line.
"""


class VidrestoreError(Exception):
    """Base of all errors raised on purpose."""


class InputError(VidrestoreError):
    """Something the user can mend."""


class SourceError(InputError):
    """The source cannot be opened or decoded."""


class TargetError(InputError):
    """The output cannot be written."""


class WeightsError(InputError):
    """A model is unknown, not installed, damaged, or its file holds something else."""


class OptionsError(InputError, ValueError):
    """An option has an unknown name, a wrong type or a value out of range."""


class RestoreError(VidrestoreError):
    """Something failed in the middle that the user did not cause."""


class OutOfDeviceMemory(VidrestoreError):  # noqa: N818 - its name says what happened
    """The batch does not fit into the memory of the device that a model runs on; a smaller one may."""
