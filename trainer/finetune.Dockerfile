# The trainer's image with PyTorch and CUDA's libraries, for recipe finetune on a GPU. A separate
# image, since serving and recipe probe do not need these gigabytes:
#   docker build -f trainer/Dockerfile -t droplens-trainer .
#   docker build -f trainer/finetune.Dockerfile --build-arg BASE=droplens-trainer .
ARG BASE
FROM ${BASE}

# Another index than PyPI for pip, while the image is built; pip ignores an empty one.
ARG PIP_INDEX_URL=

# For these variables NVIDIA's container runtime mounts the driver, also without a flag for GPUs.
ENV NVIDIA_VISIBLE_DEVICES=all
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility

RUN python -m trainer.cuda_compat
RUN pip install --no-cache-dir --require-hashes -r trainer/requirements-finetune.txt
