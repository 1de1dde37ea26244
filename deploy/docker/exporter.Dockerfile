# The exporter alone: `standalone` serves a registry in Redis, `sidecar` the directory into which a gunicorn beside it writes.
FROM rust:1.95-bookworm AS builder
WORKDIR /source
COPY . .
RUN cargo build --release --locked -p gunicorn-prometheus-exporter

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 65532 --no-create-home exporter
COPY --from=builder /source/target/release/gunicorn-prometheus-exporter /usr/local/bin/
USER exporter
EXPOSE 9091
HEALTHCHECK --interval=10s --timeout=3s CMD ["gunicorn-prometheus-exporter", "health"]
ENTRYPOINT ["gunicorn-prometheus-exporter"]
CMD ["standalone"]
