from .compat.master import *  # noqa: F403
