"""SageMaker's Model Registry: groups of model packages and their approval."""

import json
import time
from typing import Any

from localcloud.containers.runtime import Runtime
from localcloud.emulator import events
from localcloud.emulator.service import Parameters, ServiceError
from localcloud.settings import ACCOUNT, REGION

Record = dict[str, Any]


class Registry:
    """The registry's operations, by name, from request to response parameters."""

    def __init__(self, runtime: Runtime):
        self._runtime = runtime
        self._state = runtime.state
        self._groups = self._state.table("sagemaker.modelPackageGroups")
        self._packages = self._state.table("sagemaker.modelPackages")
        self.operations = {
            "CreateModelPackageGroup": self._create_group,
            "DescribeModelPackageGroup": self._describe_group,
            "CreateModelPackage": self._create_package,
            "DescribeModelPackage": self._describe_package,
            "ListModelPackageGroups": self._list_groups,
            "DeleteModelPackageGroup": self._delete_group,
            "ListModelPackages": self._list_packages,
            "DeleteModelPackage": self._delete_package,
            "UpdateModelPackage": self._update_package,
        }

    def _create_group(self, request: Parameters) -> Parameters:
        name = request["ModelPackageGroupName"]
        arn = _arn("model-package-group", name)
        with self._state.lock:
            if name in self._groups:
                raise _invalid(f"Model Package Group already exists: {arn}")
            self._groups[name] = {
                **{key: value for key, value in request.items() if key != "Tags"},
                "ModelPackageGroupArn": arn,
                "ModelPackageGroupStatus": "Completed",
                "CreationTime": time.time(),
            }
            self._state.save()
        return {"ModelPackageGroupArn": arn}

    def _describe_group(self, request: Parameters) -> Parameters:
        name = request["ModelPackageGroupName"]
        if name not in self._groups:
            raise _invalid(f"ModelPackageGroup {_arn('model-package-group', name)} does not exist.")
        return self._groups[name]

    def _list_groups(self, request: Parameters) -> Parameters:
        wanted = request.get("NameContains", "")
        found = [group for name, group in self._groups.items() if wanted in name]
        return {"ModelPackageGroupSummaryList": found}

    def _delete_group(self, request: Parameters) -> Parameters:
        name = request["ModelPackageGroupName"]
        with self._state.lock:
            self._describe_group(request)
            if any(p["ModelPackageGroupName"] == name for p in self._packages.values()):
                raise ServiceError(
                    "ConflictException", f"Model Package Group {name} still has model packages."
                )
            del self._groups[name]
            self._state.save()
        return {}

    def _create_package(self, request: Parameters) -> Parameters:
        if "ModelPackageGroupName" not in request:
            raise _invalid("The local cloud registers models in model package groups only.")
        if "Tags" in request:
            raise _invalid("Tags cannot be set on a versioned model package.")
        group = request["ModelPackageGroupName"]
        with self._state.lock:
            self._describe_group(request)
            token = request.get("ClientToken")
            for known in self._packages.values():
                if token and known["_token"] == token:
                    return {"ModelPackageArn": known["ModelPackageArn"]}
            versions = [p for p in self._packages.values() if p["ModelPackageGroupName"] == group]
            version = 1 + max((p["ModelPackageVersion"] for p in versions), default=0)
            arn = _arn("model-package", f"{group}/{version}")
            now = time.time()
            package = {
                "ModelApprovalStatus": "PendingManualApproval",
                **{key: value for key, value in request.items() if key != "ClientToken"},
                "ModelPackageVersion": version,
                "ModelPackageArn": arn,
                "ModelPackageStatus": "Completed",
                "ModelPackageStatusDetails": {"ValidationStatuses": []},
                "CreationTime": now,
                "LastModifiedTime": now,
                "_token": token,
            }
            self._packages[arn] = package
            self._state.save()
        self._announce(package)
        return {"ModelPackageArn": arn}

    def _describe_package(self, request: Parameters) -> Parameters:
        arn = request["ModelPackageName"]
        if arn not in self._packages:
            raise _invalid(f"ModelPackage {arn} does not exist.")
        return self._packages[arn]

    def _list_packages(self, request: Parameters) -> Parameters:
        wanted = {
            "ModelPackageGroupName": request.get("ModelPackageGroupName"),
            "ModelApprovalStatus": request.get("ModelApprovalStatus"),
        }
        found = [
            package
            for package in self._packages.values()
            if all(value in (None, package[name]) for name, value in wanted.items())
        ]
        found.sort(key=lambda package: package["CreationTime"], reverse=True)
        return {"ModelPackageSummaryList": found}

    def _delete_package(self, request: Parameters) -> Parameters:
        with self._state.lock:
            package = self._describe_package(request)
            del self._packages[package["ModelPackageArn"]]
            self._state.save()
        return {}

    def _update_package(self, request: Parameters) -> Parameters:
        package = self._describe_package({"ModelPackageName": request["ModelPackageArn"]})
        with self._state.lock:
            for name in ("ModelApprovalStatus", "ApprovalDescription"):
                if name in request:
                    package[name] = request[name]
            package["LastModifiedTime"] = time.time()
            self._state.save()
        self._announce(package)
        return {"ModelPackageArn": package["ModelPackageArn"]}

    def _announce(self, package: Record) -> None:
        with self._state.lock:
            shown = json.loads(json.dumps(package))
        self._runtime.send_event(events.model_package_changed(shown))


def _arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name}"


def _invalid(message: str) -> ServiceError:
    return ServiceError("ValidationException", message)
