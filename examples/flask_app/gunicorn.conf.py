# The exporter needs only the worker class. /metrics is on port 9091 of every interface.
#
# The environment says where the metrics are kept, so this file works for both:
#
#   gunicorn shop:app                                             in memory, for this instance alone
#   REDIS_ENABLED=true REDIS_HOST=redis gunicorn shop:app         in Redis, for all instances together
bind = "127.0.0.1:8000"
workers = 2
worker_class = "gunicorn_prometheus_exporter.PrometheusWorker"
