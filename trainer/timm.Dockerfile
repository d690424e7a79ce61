# The image with PyTorch, with timm and the pretrained weights of one of its networks. A separate
# image, so that those of the packaged networks stay as they are:
#   docker build -f trainer/finetune.Dockerfile --build-arg BASE=droplens-trainer -t droplens-finetune .
#   docker build -f trainer/timm.Dockerfile --build-arg BASE=droplens-finetune \
#     --build-arg BACKBONE=convnext_tiny.fb_in22k_ft_in1k .
# The weights are backbone.safetensors in the context's folder weights where the user provides them,
# else fetched from the hub. The stack's first build keeps them as an image (--target weights), which
# every later build names in WEIGHTS.
ARG BASE
ARG WEIGHTS=weights
FROM ${BASE} AS timm

# Another index than PyPI for pip, while the image is built; pip ignores an empty one.
ARG PIP_INDEX_URL=
RUN pip install --no-cache-dir --require-hashes -r trainer/requirements-timm.txt

FROM timm AS provided
ARG BACKBONE
RUN --mount=type=bind,target=/context \
    python -m trainer.nets.pretrained "$BACKBONE" --given /context/weights --out /provided

FROM scratch AS weights
COPY --from=provided /provided /

FROM ${WEIGHTS} AS kept

FROM timm
COPY --from=kept / /opt/program/weights
