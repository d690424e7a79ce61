"""SageMaker of a local cloud, for tests."""

import io
import json
import tarfile
from typing import Any

from tests.support.localcloud import Cloud, eventually, image


class SageMaker:
    """A bucket with two channels, a role, and jobs, models, endpoints as a test needs them."""

    def __init__(self, cloud: Cloud):
        self.cloud = cloud
        self.api, self.runtime = cloud.client("sagemaker"), cloud.client("sagemaker-runtime")
        self.s3, self.bucket = cloud.client("s3"), cloud.bucket("sagemaker-data")
        self.role = cloud.role("sagemaker-role", "sagemaker.amazonaws.com")
        self.events = cloud.queue_of_events("sagemaker-events", {"source": ["aws.sagemaker"]})
        self.s3.put_object(Bucket=self.bucket, Key="packed/train/a/train.rec", Body=b"records")
        self.s3.put_object(Bucket=self.bucket, Key="packed/train/", Body=b"")
        self.s3.put_object(Bucket=self.bucket, Key="packed/classes.json", Body=b"[]")

    def channel(self, name: str, prefix: str) -> dict[str, Any]:
        uri = f"s3://{self.bucket}/{prefix}"
        source = {"S3DataType": "S3Prefix", "S3Uri": uri}
        return {"ChannelName": name, "DataSource": {"S3DataSource": source}}

    def train(
        self, name: str, hyperparameters: dict[str, str] | None = None, **changes: Any
    ) -> str:
        request = {
            "TrainingJobName": name,
            "RoleArn": self.role,
            "AlgorithmSpecification": {
                "TrainingImage": image("tiny-model"),
                "TrainingInputMode": "File",
                "MetricDefinitions": [
                    {"Name": "validation:accuracy", "Regex": r"Validation-accuracy=([0-9.]+)"}
                ],
            },
            "HyperParameters": hyperparameters or {},
            "InputDataConfig": [
                self.channel("train", "packed/train/"),
                self.channel("classes", "packed/classes.json"),
            ],
            "OutputDataConfig": {"S3OutputPath": f"s3://{self.bucket}/training/"},
            "ResourceConfig": {
                "InstanceType": "ml.m5.xlarge",
                "InstanceCount": 1,
                "VolumeSizeInGB": 10,
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
            "Tags": [{"Key": "run", "Value": name}],
        }
        self.api.create_training_job(**{**request, **changes})
        return name

    def trained(self, name: str) -> dict[str, Any]:
        def over() -> dict[str, Any] | None:
            job = dict(self.api.describe_training_job(TrainingJobName=name))
            return None if job["TrainingJobStatus"] in ("InProgress", "Stopping") else job

        return eventually(f"the end of {name}", over)

    def model(self, name: str, content: dict[str, Any], model_image: str = "") -> None:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            body = json.dumps(content).encode()
            info = tarfile.TarInfo("model.json")
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
        key = f"models/{name}.tar.gz"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=archive.getvalue())
        self.api.create_model(
            ModelName=name,
            ExecutionRoleArn=self.role,
            PrimaryContainer={
                "Image": model_image or image("tiny-model"),
                "ModelDataUrl": f"s3://{self.bucket}/{key}",
            },
        )

    def config(self, name: str, **variant: Any) -> None:
        serverless = {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 2}}
        variants = [{"VariantName": "v", "ModelName": name, **(variant or serverless)}]
        self.api.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)

    def serve(self, name: str, content: dict[str, Any] | None = None, **variant: Any) -> str:
        self.model(name, content or {})
        self.config(name, **variant)
        tags = [{"Key": "run", "Value": "r1"}]
        self.api.create_endpoint(EndpointName=name, EndpointConfigName=name, Tags=tags)
        return name

    def served(self, name: str, *states: str) -> dict[str, Any]:
        wanted = states or ("InService", "Failed")

        def over() -> dict[str, Any] | None:
            endpoint = dict(self.api.describe_endpoint(EndpointName=name))
            return endpoint if endpoint["EndpointStatus"] in wanted else None

        return eventually(f"endpoint {name} in {wanted}", over)

    def invoke(self, name: str, body: bytes, **changes: Any) -> dict[str, Any]:
        request = {"EndpointName": name, "Body": body, "ContentType": "image/jpeg"}
        return dict(self.runtime.invoke_endpoint(**{**request, **changes}))
