from .compat.metrics import *  # noqa: F403
