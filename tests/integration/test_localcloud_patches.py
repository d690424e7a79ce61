"""The private functions of MiniStack that the local cloud patches exist and behave as expected.

Other tests of the local cloud cover the behaviour of most; these are the ones whose silent change
would cost seconds or safety without a failure elsewhere.
"""

import subprocess
import textwrap

from tests.support import needs
from tests.support.repository import ROOT


def run_in_cloud_environment(script: str) -> None:
    """Run a script in the environment that has MiniStack; its assertions are the test's."""
    result = subprocess.run(
        [str(needs.environment("cloud")), "-c", textwrap.dedent(script)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "BIND_HOST": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_a_service_of_ours_is_routed_without_reading_all_of_botocore() -> None:
    run_in_cloud_environment("""
        from localcloud.emulator import ministack_patches as patches
        from ministack.core import router

        scope = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sagemaker/aws4_request, "
        headers = {"host": "127.0.0.1:4566", "authorization": scope}
        patches.register_service("sagemaker", lambda request: (200, {}, b""))
        assert router.detect_service("POST", "/", headers, {}) == "sagemaker"
        assert router._KNOWN_AWS_SERVICE_NAMES is None
    """)


def test_a_table_of_a_stack_lets_its_items_expire() -> None:
    run_in_cloud_environment("""
        import json

        from localcloud.emulator import ministack_patches as patches
        from ministack.core.responses import request_scope
        from ministack.services import dynamodb
        from ministack.services.cloudformation import provisioners

        patches.apply_time_to_live()
        table = {
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": "a", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "a", "KeyType": "HASH"}],
        }
        expiring = {**table, "TimeToLiveSpecification": {"AttributeName": "e", "Enabled": True}}
        handler = provisioners._RESOURCE_HANDLERS["AWS::DynamoDB::Table"]

        def status(name):
            _, _, body = dynamodb._describe_ttl({"TableName": name})
            return json.loads(body)["TimeToLiveDescription"]

        with request_scope("000000000000", "us-east-1"):
            kept, _ = handler["create"]("Kept", table, "stack")
            expires, _ = handler["create"]("Expires", expiring, "stack")
            assert status(kept) == {"TimeToLiveStatus": "DISABLED"}
            assert status(expires) == {"TimeToLiveStatus": "ENABLED", "AttributeName": "e"}
            updated, _ = provisioners._update_resource(
                "AWS::DynamoDB::Table", kept, table, expiring, "stack", "Kept")
            assert set(dynamodb._tables.keys()) == {kept, expires}
            assert updated == kept
            assert status(kept) == {"TimeToLiveStatus": "ENABLED", "AttributeName": "e"}
    """)


def test_every_patched_function_has_the_expected_signature() -> None:
    run_in_cloud_environment("""
        import inspect
        import zipfile

        from localcloud.emulator import ministack_patches as patches
        from ministack import app
        from ministack.core import (
            iam_actions, iam_evaluator, lambda_runtime, persistence, responses, sigv4)
        from ministack.services import (
            cloudwatch, codebuild, eventbridge, lambda_svc, s3, sns, sqs, sts)
        from ministack.services.cloudformation import engine, provisioners

        def parameters(function):
            return list(inspect.signature(function).parameters)

        assert parameters(eventbridge._put_events) == ["data", "allow_aws_source"]
        assert parameters(eventbridge._dispatch_event) == ["event", "view"]
        assert parameters(eventbridge._dispatch_to_lambda) == ["arn", "payload"]
        assert parameters(lambda_svc.invoke_async_with_retry) == ["func", "event"]
        assert parameters(lambda_svc._get_func_record_for_ref) == ["function_ref"]
        assert parameters(lambda_svc._emit_lambda_logs)[0] == "func"
        assert parameters(lambda_runtime._detect_runtime_binary) == ["runtime"]
        assert parameters(lambda_runtime.reset) == []
        assert lambda_runtime.zipfile is zipfile
        worker = lambda_runtime.Worker("name", {}, b"")
        assert (worker.in_use, worker._proc) == (False, None)
        assert lambda_runtime._workers == {} and lambda_runtime._lock.acquire(timeout=1)
        assert "version_id" in parameters(s3._fire_s3_event)
        assert parameters(sns._fanout)[:4] == ["topic_arn", "msg_id", "message", "subject"]
        assert parameters(sqs._queue_by_arn) == ["arn"]
        assert "StartMessageMoveTask" not in sqs._HANDLERS  # once it is there, ours can go
        assert sqs.esm_wake.set
        assert parameters(app.call_service_handler_sync)[1:6] == [
            "method", "path", "headers", "body", "query_params"]
        assert parameters(persistence.save_all) == ["services"]
        assert parameters(eventbridge._invoke_target) == ["target", "event", "rule", "view"]
        assert parameters(sts.register_session) == ["access_key", "session"]
        assert parameters(app.pin_request_origin) == ["source_ip", "secure_transport"]
        assert parameters(codebuild._start_build) == ["data"]
        assert parameters(engine._evaluate_conditions) == ["template", "params"]
        assert parameters(iam_actions.extract_resource_arn)[:5] == [
            "service", "method", "path", "headers", "body"]
        assert parameters(iam_evaluator.enforce) == [
            "access_key_id", "iam_action", "service", "region", "resource_arn", "service_context"]
        assert parameters(iam_actions.extract_iam_action) == [
            "service", "method", "path", "headers", "body", "query_params"]
        assert parameters(iam_actions.request_tag_context)[:3] == ["service", "iam_action", "body"]
        assert parameters(lambda_runtime.execution_credentials) == ["config"]
        assert lambda_svc.execution_credentials is lambda_runtime.execution_credentials
        assert parameters(app._credential_failure) == [
            "service", "iam_action", "request_id", "denied", "headers"]
        assert parameters(iam_evaluator._sigv2_check) == ["request", "account_id"]
        assert parameters(iam_evaluator.resolve_credential) == [
            "access_key_id", "account_id", "session_token"]
        assert iam_evaluator.is_root_access_key("test")  # by MiniStack itself anybody is root
        assert parameters(responses._account_from_sts_session) == ["access_key_id"]
        assert parameters(sigv4.header_signature_failure)[:7] == [
            "signature", "secret", "method", "raw_path", "query_params", "headers", "body"]
        assert "batch" in iam_actions.SERVICE_TO_IAM_NAMESPACE
        assert callable(app._build_persistence_save_dict)
        assert parameters(provisioners._cw_metric_alarm_record) == ["name", "props"]
        assert parameters(cloudwatch._evaluate_alarm) == ["alarm"]
        assert parameters(cloudwatch._stat_value) == ["stats", "stat_name", "points"]
        mapping = provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"]
        assert {"create", "update", "delete"} <= mapping.keys()
        for name in ("ComputeEnvironment", "JobQueue", "JobDefinition"):
            # Once MiniStack has these itself, ours should be looked at again.
            assert f"AWS::Batch::{name}" not in provisioners._RESOURCE_HANDLERS
        assert "sagemaker" not in app.SERVICE_HANDLERS
    """)


def test_every_place_where_a_limit_is_checked_is_there() -> None:
    run_in_cloud_environment("""
        import inspect

        from localcloud.emulator import ministack_limits
        from ministack.core import iam_evaluator
        from ministack.services import eventbridge, iam, lambda_svc, sns
        from ministack.services.cloudformation import provisioners

        def parameters(function):
            return list(inspect.signature(function).parameters)

        assert parameters(eventbridge._put_rule) == ["data"]
        assert parameters(eventbridge._event_pattern_error) == ["pattern_str"]
        assert parameters(sns.publish_internal)[:3] == ["topic_arn", "message", "subject"]
        assert issubclass(sns.SnsPublishError, ValueError)
        assert parameters(lambda_svc._invoke)[:3] == ["name", "event", "headers"]
        assert parameters(lambda_svc._create_function) == ["data"]
        assert parameters(lambda_svc._update_config) == ["name", "data"]
        assert parameters(iam_evaluator._gather_role_policies) == ["role_name", "account_id"]
        assert parameters(iam_evaluator._resolve_managed_policy_document) == [
            "policy_arn", "account_id"]
        assert len(iam._roles) == 0
        for kind in ("Events::Rule", "Lambda::Function"):
            assert {"create", "update"} <= provisioners._RESOURCE_HANDLERS[f"AWS::{kind}"].keys()
    """)


def test_conditions_may_split_a_parameter() -> None:
    run_in_cloud_environment("""
        from localcloud.emulator import ministack_patches as patches
        from ministack.services.cloudformation import changesets, stacks

        patches.evaluate_functions_in_conditions()
        text = {"Fn::Split": [".", {"Fn::Sub": "${Registry}..."}]}
        template = {"Conditions": {"Private": {"Fn::Equals": [{"Fn::Select": [1, text]}, "dkr"]}}}
        for module in (changesets, stacks):
            for registry, private in (("1.dkr.ecr.a.b", True), ("docker.io", False)):
                found = module._evaluate_conditions(template, {"Registry": {"Value": registry}})
                assert found == {"Private": private}
    """)


def test_an_alarm_of_metric_math_watches_its_expression() -> None:
    run_in_cloud_environment("""
        import json

        from localcloud.emulator import ministack_patches as patches
        from localcloud.emulator.metric_math import ExpressionError
        from ministack.services import cloudwatch
        from ministack.services.cloudformation import provisioners

        def metric(identifier, stat):
            dimensions = [{"Name": "service", "Value": "droplens"}]
            watched = {"Namespace": "N", "MetricName": "Odd", "Dimensions": dimensions}
            stat = {"Metric": watched, "Period": "3600", "Stat": stat}
            return {"Id": identifier, "MetricStat": stat, "ReturnData": "false"}

        def alarm(expression):
            metrics = [metric("odd", "Sum"), metric("all", "SampleCount")]
            return {
                "AlarmName": "odd", "Threshold": 0.2, "EvaluationPeriods": 1,
                "ComparisonOperator": "GreaterThanThreshold",
                "Metrics": [*metrics, {"Id": "share", "Expression": expression}]}

        def send(values, service):
            dimensions = [{"Name": "service", "Value": service}]
            datum = {"MetricName": "Odd", "Dimensions": dimensions, "Values": values}
            cloudwatch._put_metric_data({}, {"Namespace": "N", "MetricData": [datum]}, False, True)
            return cloudwatch._alarms["odd"]["StateValue"]

        patches.provide_metric_math_alarms()
        provisioner = provisioners._RESOURCE_HANDLERS["AWS::CloudWatch::Alarm"]
        try:
            provisioner["create"]("Odd", alarm("SQRT(odd)"), "stack")
        except ExpressionError as error:
            assert "SQRT" in str(error)
        else:
            raise AssertionError("it was accepted")
        provisioner["create"]("Odd", alarm("IF(all < 4, 0, odd / all)"), "stack")
        assert send([1, 1, 1], "another") == "INSUFFICIENT_DATA"
        assert send([1, 1, 1], "droplens") == "OK"
        assert send([0], "droplens") == "ALARM"
        assert send([0] * 20, "droplens") == "OK"
        described = cloudwatch._describe_alarms({}, {"AlarmNames": ["odd"]}, False, True)
        [found] = json.loads(described[2])["MetricAlarms"]
        assert "MetricName" not in found and len(found["Metrics"]) == 3
        assert found["Metrics"][0]["MetricStat"]["Period"] == 3600
    """)


def test_another_version_of_ministack_is_refused() -> None:
    run_in_cloud_environment("""
        from importlib import metadata

        metadata.version = lambda name: "9.9.9"
        try:
            import localcloud.emulator.ministack_patches
        except ImportError as error:
            assert "9.9.9" in str(error)
        else:
            raise AssertionError("it was accepted")
    """)
