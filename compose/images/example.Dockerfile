# The FastAPI example of tests/examples as a service, for `docker compose --profile demo`.
#     docker build --file compose/images/example.Dockerfile --tag writebehind-example:0.1.0 .
FROM python:3.13-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS build
WORKDIR /src
COPY locks/uv.txt locks/example.txt locks/
RUN python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement locks/uv.txt \
    && python -m venv --without-pip /opt/venv \
    && uv pip install --no-cache --compile-bytecode --python /opt/venv/bin/python --require-hashes --requirement locks/example.txt
COPY LICENSE ./
COPY shared shared
COPY producer producer
RUN for part in shared producer; do uv build --offline --wheel --out-dir /wheels "$part" || exit 1; done \
    && uv pip install --no-cache --compile-bytecode --python /opt/venv/bin/python --offline --no-deps /wheels/*.whl

FROM python:3.13-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY tests/examples/entities.py tests/examples/fastapi_app.py players/
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
EXPOSE 8000
# What the service measures and traces goes where the OTEL_* variables say.
ENTRYPOINT ["opentelemetry-instrument", "uvicorn", "players.fastapi_app:app", "--host", "0.0.0.0", "--port", "8000"]
