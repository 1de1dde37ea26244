# Everything that the exporter needs: the worker class. /metrics is on port 9091 of every interface.
#
# Where the metrics live is a setting of the environment, so the same file serves both:
#
#   gunicorn shop:app                                             this instance's own, in memory
#   REDIS_ENABLED=true REDIS_HOST=redis gunicorn shop:app         one set, shared by all instances
bind = "127.0.0.1:8000"
workers = 2
worker_class = "gunicorn_prometheus_exporter.PrometheusWorker"
