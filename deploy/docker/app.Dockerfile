# examples/flask_app under gunicorn with the package, built from this source tree.
FROM rust:1.95-bookworm AS builder
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv /maturin \
 && /maturin/bin/pip install --no-cache-dir 'maturin>=1.9,<2'
WORKDIR /source
COPY . .
RUN /maturin/bin/maturin build --release --locked --manifest-path py-client/Cargo.toml --out /wheels

FROM python:3.12-slim
COPY --from=builder /wheels /wheels
RUN pip install --no-cache-dir flask /wheels/*.whl && rm -r /wheels
COPY examples/flask_app /app
WORKDIR /app
RUN useradd --uid 65532 --create-home app
USER app
EXPOSE 8000 9091
CMD ["gunicorn", "--bind=0.0.0.0:8000", "shop:app"]
