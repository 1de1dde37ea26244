from .compat.plugin import *  # noqa: F403
from .compat.plugin import __getattr__ as __getattr__
