"""Explains errors of AWS, and of the network to it, to the user of a command."""

import os
from urllib.parse import urlsplit

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOTokenLoadError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

# Error codes for expired and for unknown credentials.
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_UNKNOWN = {
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AuthFailure",
}
_FORBIDDEN = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
_LIMITS = {
    "ResourceLimitExceeded",
    "LimitExceededException",
    "ServiceQuotaExceededException",
    "AccountLimitExceededException",
}
_SIGN_IN = "sign in again (aws sso login, or new keys by aws configure), then run the same command"


def _local_cloud(error: BotoCoreError | ClientError) -> str:
    """The address of the local cloud, where the error or the environment names one; else ""."""
    named = getattr(error, "kwargs", {}).get("endpoint_url")
    url = str(named or os.environ.get("AWS_ENDPOINT_URL", ""))
    return url if urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1") else ""


def explained(error: BotoCoreError | ClientError) -> tuple[str, str]:
    """The error in a sentence, and what to do next.

    The credentials' errors are botocore's own classes; the codes are those of
    https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html and of STS.
    """
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        if code in _EXPIRED:
            return f"the AWS credentials have expired: {error}", _SIGN_IN
        if code in _UNKNOWN:
            return (
                f"AWS does not know these credentials: {error}",
                "look at `aws sts get-caller-identity`: key, secret, AWS_PROFILE and region",
            )
        if code in _FORBIDDEN:
            return (
                f"AWS does not allow it: {error}",
                "have the right that it names given to your identity, then run the same command",
            )
        if code in _LIMITS:
            return (
                f"a quota of the account is used up: {error}",
                "`make preflight` names the quota, how to have it raised and what avoids it",
            )
        if code == "ValidationError" and "does not exist" in str(error):
            if _local_cloud(error):
                return (
                    f"nothing is deployed there: {error}",
                    "`make deploy-local` deploys the stack",
                )
            return (
                f"there is no such stack: {error}",
                "look at its name and region in the saved answers; `make deploy` deploys it",
            )
        return f"AWS refused: {error}", "if the message is not clear, `make preflight` may be"
    if isinstance(error, EndpointConnectionError | HTTPClientError) and (
        url := _local_cloud(error)
    ):
        return (
            "the local cloud is down: `make up` starts it",
            f"nothing answers at {url.rstrip('/')}; all that it had is there again then",
        )
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return (
            f"no AWS credentials are set: {error}",
            "`aws configure` or `aws sso login` sets them, or AWS_PROFILE names whose to take",
        )
    if isinstance(
        error,
        SSOTokenLoadError
        | UnauthorizedSSOTokenError
        | TokenRetrievalError
        | CredentialRetrievalError,
    ):
        return f"the AWS sign-in is over, or failed: {error}", _SIGN_IN
    if isinstance(error, ProfileNotFound):
        return str(error), "`aws configure list-profiles` lists those there are"
    if isinstance(error, NoRegionError):
        return "no AWS region is named", "name one by AWS_REGION=..., or in the saved answers"
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return (
            f"AWS cannot be reached: {error}",
            "look whether the region's name is right, and the network and its proxy",
        )
    return f"the call to AWS failed: {error}", "look at credentials, region and network"
