from ..compat.storage_dict import *  # noqa: F403
