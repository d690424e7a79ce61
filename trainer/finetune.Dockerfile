# The trainer's image and PyTorch with CUDA's libraries, for recipe finetune on a GPU. An image of
# its own, since it is gigabytes that serving and recipe probe have no use for:
#   docker build -f trainer/Dockerfile -t droplens-trainer .
#   docker build -f trainer/finetune.Dockerfile --build-arg BASE=droplens-trainer .
ARG BASE
FROM ${BASE}

# Another index than PyPI for pip, while the image is built; pip ignores an empty one.
ARG PIP_INDEX_URL=

# What NVIDIA's container runtime lends the driver by, also where nobody asks for GPUs by a flag.
ENV NVIDIA_VISIBLE_DEVICES=all
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility

# Triton, by which PyTorch compiles a net, has a C compiler translate its launchers.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && \
    rm -rf /var/lib/apt/lists/*
RUN python -m trainer.cuda_compat
RUN pip install --no-cache-dir --require-hashes -r trainer/requirements-finetune.txt
