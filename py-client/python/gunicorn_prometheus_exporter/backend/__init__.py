from ..compat.storage import *  # noqa: F403
from ..compat.storage_dict import *  # noqa: F403
