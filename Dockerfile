# One image for every process; what a container does is its command (see docker-compose.yml).
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
RUN python -m venv /opt/sluiceway
COPY pyproject.toml constraints.txt README.md ./
RUN /opt/sluiceway/bin/pip install --no-cache-dir --constraint constraints.txt uv
COPY sluiceway sluiceway
COPY api api
COPY orchestration orchestration
COPY expectations expectations
COPY dashboards_app dashboards_app
RUN /opt/sluiceway/bin/uv pip install --no-cache --python /opt/sluiceway/bin/python \
      --constraint constraints.txt --compile-bytecode --editable '.[demo]' \
 && /opt/sluiceway/bin/python -m dashboards_app.canvas.build \
 && rm -rf dashboards_app/canvas/node_modules

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin sluiceway \
 && mkdir /data && chown sluiceway /data
COPY --from=build /opt/sluiceway /opt/sluiceway
COPY --from=build /app /app
COPY dbt_project /app/dbt_project
COPY examples /app/examples
COPY workspace.yaml /app/
WORKDIR /app
USER 10001
ENV PATH=/opt/sluiceway/bin:$PATH PYTHONUNBUFFERED=1 SLUICEWAY_HOME=/data SLUICEWAY_HOST=0.0.0.0
VOLUME /data
EXPOSE 8000 3000
ENTRYPOINT ["sluiceway"]
CMD ["process", "web"]
