from ..compat.storage import *  # noqa: F403
