# Sync workers, each with one request at a time: right for most applications.
#
#   gunicorn --config gunicorn_simple.conf.py app:app
bind = "127.0.0.1:8000"
workers = 2
worker_class = "gunicorn_prometheus_exporter.PrometheusWorker"
