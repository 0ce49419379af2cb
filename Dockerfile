# The command line with everything it needs for NVIDIA GPUs, x86-64. How it is run: docs/docker.md.
#
#   build   docker build --tag taco-lab .
#   needs   on the host, an NVIDIA driver of version 580 or later and the NVIDIA Container Toolkit

# The Python that constraints.txt was resolved and tested with.
FROM python:3.11.14-slim-bookworm AS packages
WORKDIR /workspace
COPY pyproject.toml constraints.txt ./
RUN python -m venv /opt/venv
# Requirements without the code, so that changes of the code do not install 6 GB again.
RUN --mount=type=cache,target=/root/.cache/pip \
    python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], *project['optional-dependencies']['dash'], sep='\n')" \
        > /opt/venv/requirements.txt \
    && /opt/venv/bin/python -m pip install --disable-pip-version-check --only-binary :all: \
        --constraint constraints.txt --requirement /opt/venv/requirements.txt \
    && /opt/venv/bin/python -m pip check

# `base` and no larger flavour: torch loads the CUDA 13 libraries that constraints.txt pins, not the image's. What the
# image adds is NVIDIA's compatibility library for older data-centre drivers, and a check of the driver when a container
# starts. 13.0 is the oldest CUDA 13, so that the check admits every driver on which torch's libraries run.
FROM nvidia/cuda:13.0.2-base-ubuntu24.04
# What Python's own modules load. Unpinned: Ubuntu takes superseded versions off its servers.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        ca-certificates libbz2-1.0 libffi8 liblzma5 libsqlite3-0 libssl3t64 zlib1g \
    && rm -rf /var/lib/apt/lists/*
COPY --from=packages /usr/local /usr/local
COPY --from=packages /opt/venv /opt/venv
RUN ldconfig
# HOME and caches in one place to mount: weights from Hugging Face and torchvision, W&B's login. A user that --user
# names has no entry in /etc/passwd, and some packages ask for a name.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/workspace \
    PYTHONUNBUFFERED=1 \
    DATA_ROOT=/data \
    HOME=/cache \
    XDG_CACHE_HOME=/cache \
    LOGNAME=taco
WORKDIR /workspace
COPY configs configs
COPY sweeps sweeps
COPY callbacks callbacks
COPY datamodules datamodules
COPY lightning_modules lightning_modules
# Writable for whoever --user names; the code itself is root's.
RUN mkdir -p /workspace/runs /data /cache && chmod 1777 /workspace /workspace/runs /cache
USER 1000:1000
# Python came from another distribution: what it lacks here shall fail the build and not the first training.
RUN python -c "import bz2, ctypes, lzma, sqlite3, ssl, zlib" \
    && HOME=/tmp/check XDG_CACHE_HOME=/tmp/check \
        python -m lightning_modules.cli fit --config configs/taco.yaml --print_config > /dev/null \
    && rm -rf /tmp/check
# As Ctrl-C: a training finishes its step and saves.
STOPSIGNAL SIGINT
ENTRYPOINT ["python", "-m", "lightning_modules.cli"]
CMD ["--help"]
