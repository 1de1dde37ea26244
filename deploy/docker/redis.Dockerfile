# Redis with the metrics module. Any Redis from 6.2 on, or Valkey: --build-arg SERVER=valkey/valkey:8
ARG SERVER=redis:7.4-bookworm

FROM rust:1.95-bookworm AS builder
RUN apt-get update \
 && apt-get install -y --no-install-recommends clang libclang-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN cargo build --release --locked -p redis-metrics

FROM ${SERVER}
COPY --from=builder /source/target/release/libredis_metrics.so /usr/local/lib/libredis_metrics.so
# No configuration file: by default the server saves snapshots to /data, which is right for metrics.
CMD ["redis-server", "--loadmodule", "/usr/local/lib/libredis_metrics.so"]
