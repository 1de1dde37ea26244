# Greenlets, for many connections that wait at the same time. Needs gevent.
#
#   gunicorn --config gunicorn_gevent_async.conf.py async_app:app
bind = "127.0.0.1:8000"
workers = 2
worker_connections = 1000
worker_class = "gunicorn_prometheus_exporter.PrometheusGeventWorker"
