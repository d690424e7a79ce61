"""Which instances' storage volumes SageMaker encrypts with a key of the user's."""

import re

# These have disks of their own, which the instance's hardware encrypts; SageMaker refuses requests
# that name a key for them: a "d" behind the generation, and all of the newer GPU families.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/InstanceStorage.html#instance-store-volumes
_OWN_DISKS = re.compile(r"ml\.([a-z]+\d+[a-z]*d[a-z]*|(g[5-9]|p[5-9]|trn\d|i\d)[a-z0-9-]*)\.")


def volume_key(kms_key_arn: str, instance_type: str) -> str | None:
    """The key to name for the instance's volume; None if there is none, or it takes none."""
    return None if _OWN_DISKS.match(instance_type) else kms_key_arn or None
