from .compat.hooks import *  # noqa: F403
