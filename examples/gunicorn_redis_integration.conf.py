# One set of metrics in Redis for all instances, and no files. The Redis needs the module:
#
#   redis-server --loadmodule libredis_metrics.so
#   gunicorn --config gunicorn_redis_integration.conf.py app:app
#
# The environment takes precedence: REDIS_HOST=redis.internal gunicorn ...
import os

os.environ.setdefault("REDIS_ENABLED", "true")
os.environ.setdefault("REDIS_HOST", "127.0.0.1")

bind = "127.0.0.1:8000"
workers = 2
worker_class = "gunicorn_prometheus_exporter.PrometheusWorker"
