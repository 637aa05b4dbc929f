# syntax=docker/dockerfile:1
# The one image of all pipeline steps, training pods, the MLflow server and the reaper. `make image` builds it;
# what each step does is in image/build.sh.
#   --build-arg DEVICE=cuda     Horovod with NCCL; without it, a training on GPUs refuses to start
#   --build-arg BASE=...        for example the same Debian by its digest
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS runtime
ARG DEVICE=cpu
COPY image/build.sh /opt/upsnet/image/build.sh
RUN /opt/upsnet/image/build.sh runtime

FROM runtime AS build
ARG DEVICE=cpu
WORKDIR /opt/upsnet
RUN image/build.sh compiler
# Packages and Horovod take minutes: they come before the code, which changes every day.
COPY requirements.lock ./
RUN --mount=type=cache,target=/root/.cache/pip image/build.sh venv
COPY setup/ setup/
RUN --mount=type=cache,target=/var/cache/upsnet image/build.sh horovod
COPY pyproject.toml params.yaml dvc.yaml ./
COPY configs/ configs/
COPY upsnet/ upsnet/
COPY components/ components/
COPY pipelines/ pipelines/
RUN image/build.sh app

FROM runtime
ARG DEVICE=cpu
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="upsnet" \
      org.opencontainers.image.description="UPSNet panoptic segmentation: pipeline steps and Horovod training pods" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      dev.upsnet.device="${DEVICE}"
COPY image/ /opt/upsnet/image/
RUN /opt/upsnet/image/build.sh user
COPY --from=build /opt/upsnet/ /opt/upsnet/
RUN /opt/upsnet/image/build.sh check
ENV PATH=/opt/upsnet/.venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /opt/upsnet
USER 1000:1000
EXPOSE 2222 5000
# tini passes signals on and reaps: ranks and data loaders of an ended training leave no zombies.
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["upsnet", "--help"]
