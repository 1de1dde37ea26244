"""Names that exist only because the package before this one had them, with their meaning in this package.

Old import paths (``gunicorn_prometheus_exporter.metrics``, ``.hooks``, ``.backend.core`` and so on) are files of one
line outside this folder.
"""
