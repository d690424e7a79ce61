"""The one way in which packing ends badly."""


class JobError(Exception):
    """The dataset cannot be packed; the message is one sentence that tells its owner why."""
