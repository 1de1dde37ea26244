# The same with eventlet. Gunicorn 26 has no eventlet worker any more: use gevent there.
#
#   gunicorn --config gunicorn_eventlet_async.conf.py async_app:app
bind = "127.0.0.1:8000"
workers = 2
worker_connections = 1000
worker_class = "gunicorn_prometheus_exporter.PrometheusEventletWorker"
