# Threads, for applications that wait for databases and other services.
#
#   gunicorn --config gunicorn_thread_worker.conf.py app:app
bind = "127.0.0.1:8000"
workers = 2
threads = 4
worker_class = "gunicorn_prometheus_exporter.PrometheusThreadWorker"
