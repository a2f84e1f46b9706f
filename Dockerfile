# medseg on Python 3.12, run by a user who is not root:
#
#     docker build -t medseg .
#     docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" medseg predict MODEL scan.nii.gz --out results
#
# The torch that is installed is the CUDA build: it uses a GPU where `docker run --gpus all` lends one, and otherwise the
# CPU. It takes about 6 GB. For a smaller image without CUDA, give the address of PyTorch's CPU wheels: their version ends
# in "+cpu", which pip prefers to the same version without it.
#
#     docker build -t medseg-cpu --build-arg PIP_EXTRA_INDEX_URL=ADDRESS .

FROM python:3.12-slim AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
ARG PIP_EXTRA_INDEX_URL
# The wheel is lent for this step, and the sources stay in the stage above: neither becomes a layer of the image.
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir /wheels/*.whl
RUN useradd --no-create-home medseg && install --directory --owner=medseg /work
# `--user` may name someone who has no account here; torch asks for a home and a name all the same.
ENV HOME=/tmp USER=medseg
USER medseg
WORKDIR /work
ENTRYPOINT ["medseg"]
CMD ["--help"]
