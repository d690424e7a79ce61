"""Which instances have a storage volume whose size and key are for us to choose."""

import re

# These have disks of their own, which the instance's hardware encrypts; SageMaker refuses requests
# that name a key for them: a "d" behind the generation, and all of the newer GPU families.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/InstanceStorage.html#instance-store-volumes
_OWN_DISKS = re.compile(r"ml\.([a-z]+\d+[a-z]*d[a-z]*|(g[5-9]|p[5-9]|trn\d|i\d)[a-z0-9-]*)\.")


# For an instance with disks of its own: SageMaker makes no volume then, but it checks the size that
# is asked for against the account's quota (sagemaker-python-sdk, issue 4939). This is what AWS's
# own SDK sends where nothing else is said.
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ResourceConfig.html, VolumeSizeInGB
NO_VOLUME_GB = 30


def volume_gb(instance_type: str, needed: int) -> int:
    """The size of volume to ask for, of an instance that needs so many GB."""
    return NO_VOLUME_GB if _OWN_DISKS.match(instance_type) else needed


def volume_key(kms_key_arn: str, instance_type: str) -> str | None:
    """The key to name for the instance's volume; None if there is none, or it takes none."""
    return None if _OWN_DISKS.match(instance_type) else kms_key_arn or None
