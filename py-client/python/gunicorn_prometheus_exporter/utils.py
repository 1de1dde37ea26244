from .compat.directory import *  # noqa: F403
