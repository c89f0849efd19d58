# The command `writebehind` with its locked dependencies. Build it from the repository's root:
#     docker build --file compose/images/flusher.Dockerfile --tag writebehind-flusher:0.1.0 .
# Your entities come as modules below /app: mounted, or copied by an image of your own (FROM this one).
FROM python:3.13-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS build
WORKDIR /src
COPY locks/uv.txt locks/flusher.txt locks/
RUN python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement locks/uv.txt \
    && python -m venv --without-pip /opt/venv \
    && uv pip install --no-cache --compile-bytecode --python /opt/venv/bin/python --require-hashes --requirement locks/flusher.txt
COPY LICENSE ./
COPY shared shared
COPY producer producer
COPY flusher flusher
# Offline: uv builds the wheels itself, so no build backend is fetched past the locks.
RUN for part in shared producer flusher; do uv build --offline --wheel --out-dir /wheels "$part" || exit 1; done \
    && uv pip install --no-cache --compile-bytecode --python /opt/venv/bin/python --offline --no-deps /wheels/*.whl

FROM python:3.13-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# A number, not a name: Kubernetes' runAsNonRoot cannot look a name up.
USER 65532:65532
ENTRYPOINT ["writebehind"]
CMD ["flush"]
