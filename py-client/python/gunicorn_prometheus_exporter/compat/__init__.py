"""Every name that exists only because the package before this one had it, each meaning what it means here.

Old import paths (``gunicorn_prometheus_exporter.metrics``, ``.hooks``, ``.backend.core`` and so on) are files of one
line beside this folder.
"""
