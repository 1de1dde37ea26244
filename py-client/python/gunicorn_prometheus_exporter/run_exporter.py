"""The program of the exporter process: the extension alone, and no module of the application.

    python -I -S run_exporter.py <extension> [<user> <group>]

It runs without site, environment and current directory. It loads the extension from the extension's own directory:
not by ``importlib.util``, which would load 25 modules and take a megabyte.
"""

import sys


def main() -> int:
    """Runs it; returns the exit status."""
    extension, *owner = sys.argv[1:]
    sys.path.insert(0, extension.rpartition("/")[0])
    import _native  # type: ignore[import-not-found]

    del sys.path[0]
    if owner:
        import posix

        user, group = map(int, owner)
        posix.setgroups([group])
        posix.setgid(group)
        posix.setuid(user)
    status: int = _native.run_instance()
    return status


if __name__ == "__main__":
    sys.exit(main())
