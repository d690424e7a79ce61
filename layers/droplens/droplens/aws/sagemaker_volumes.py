"""Storage volumes of SageMaker instances: which take a size and a KMS key."""

import re

# Instance types with local disks (instance store), which the hardware encrypts; SageMaker refuses a
# KMS key for them: a "d" behind the generation, and all of the newer GPU families.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/InstanceStorage.html#instance-store-volumes
_OWN_DISKS = re.compile(r"ml\.([a-z]+\d+[a-z]*d[a-z]*|(g[5-9]|p[5-9]|trn\d|i\d)[a-z0-9-]*)\.")


# For an instance with local disks: SageMaker creates no volume then, but checks the requested size
# against the account's quota (sagemaker-python-sdk, issue 4939). This is the default of AWS's SDK.
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ResourceConfig.html, VolumeSizeInGB
NO_VOLUME_GB = 30


def volume_gb(instance_type: str, needed: int) -> int:
    """The volume size to request, in GB, for an instance that needs `needed` GB."""
    return NO_VOLUME_GB if _OWN_DISKS.match(instance_type) else needed


def volume_key(kms_key_arn: str, instance_type: str) -> str | None:
    """The KMS key to request for the instance's volume; None if there is none or it takes none."""
    return None if _OWN_DISKS.match(instance_type) else kms_key_arn or None
