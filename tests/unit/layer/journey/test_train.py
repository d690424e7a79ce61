"""Training requests that SageMaker takes, and what is told where it would not."""

import dataclasses
import json
import re
from typing import Any

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens.aws.events import PackingEnded
from droplens.domain import choices
from droplens.domain.errors import UserError
from droplens.domain.run import Run, Stage, Status
from droplens.journey import train as training
from droplens.journey.failures import Failures
from droplens.records.manifest import PackedDataset
from droplens.runtime.settings import TrainingSettings
from droplens.state.packed import read_packed
from droplens.state.runs import Runs
from tests.support.aws_account import BUCKET, Cloud
from tests.support.aws_fakes import check_request
from tests.support.builders import NAME, RUN, pack
from tests.support.crashes import crash_in
from tests.support.training import AUTO, DATASET, FINETUNE, OURS, SETTINGS
from trainer.nets.specification import PACKAGED
from trainer.settings import RECIPES, Folders, Hyperparameters

ALL = {"builtin": SETTINGS, "probe": OURS, "finetune": FINETUNE, "auto": AUTO}
EVERY = pytest.mark.parametrize("settings", ALL.values(), ids=ALL)
SAGEMAKER: Any = botocore.session.get_session().get_service_model("sagemaker")
INSTANCES = SAGEMAKER.shape_for("TrainingInstanceType").enum


def request(
    settings: TrainingSettings = SETTINGS, dataset: PackedDataset = DATASET, **changes: Any
) -> dict[str, Any]:
    changed = dataclasses.replace(settings, **changes)
    return training.training_request(RUN, dataset, BUCKET, changed, NAME)


def test_the_built_in_algorithm_s_request() -> None:
    made = request()
    assert made["TrainingJobName"] == NAME
    assert made["AlgorithmSpecification"] == {
        "TrainingImage": "811284229777.dkr.ecr.us-east-1.amazonaws.com/image-classification:1",
        "TrainingInputMode": "File",
    }
    assert made["HyperParameters"] == {
        "num_classes": "3",
        "num_training_samples": "646",
        "image_shape": "3,224,224",
        "mini_batch_size": "32",
        "num_layers": "50",
        "use_pretrained_model": "1",
        "epochs": "30",
        "optimizer": "sgd",
        "learning_rate": "0.01",
        "lr_scheduler_factor": "0.1",
        "lr_scheduler_step": "20,25",
        "augmentation_type": "crop_color_transform",
        "early_stopping": "True",
    }
    channels = {
        channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"]
        for channel in made["InputDataConfig"]
    }
    assert channels == {
        "train": f"s3://{BUCKET}/packed/cars/{RUN.run_id}/train/train.rec",
        "validation": f"s3://{BUCKET}/packed/cars/{RUN.run_id}/validation/validation.rec",
    }
    assert {channel["ContentType"] for channel in made["InputDataConfig"]} == {
        "application/x-recordio"
    }
    assert made["OutputDataConfig"]["S3OutputPath"] == f"s3://{BUCKET}/training/cars/{RUN.run_id}/"


def test_our_own_image_s_request() -> None:
    made = request(OURS)
    assert made["AlgorithmSpecification"]["TrainingImage"] == OURS.trainer_image_uri
    assert made["AlgorithmSpecification"]["MetricDefinitions"] == training.METRICS
    assert made["HyperParameters"] == {
        "num_classes": "3",
        "num_training_samples": "646",
        "image_shape": "3,288,288",
        "mini_batch_size": "32",
        "recipe": "probe",
        "backbone": "efficientnet-lite0",
    }
    assert made["ResourceConfig"]["InstanceType"] == "ml.m5.xlarge"
    [classes] = [c for c in made["InputDataConfig"] if c["ChannelName"] == "classes"]
    assert classes["DataSource"]["S3DataSource"]["S3Uri"].endswith(f"{RUN.run_id}/classes.json")


def test_finetune_s_request() -> None:
    made = request(FINETUNE, epochs=12)
    assert made["AlgorithmSpecification"] == {
        "TrainingImage": FINETUNE.finetune_image_uri,
        "TrainingInputMode": "File",
        "MetricDefinitions": training.METRICS,
    }
    assert made["HyperParameters"] == {
        **request(OURS)["HyperParameters"],
        "recipe": "finetune",
        "epochs": "12",
        "device": "gpu",
    }
    assert made["InputDataConfig"] == request(OURS)["InputDataConfig"]
    assert made["ResourceConfig"]["InstanceType"] == "ml.g5.xlarge"


def test_auto_with_a_gpu_is_one_job_in_the_image_that_can_do_both() -> None:
    made, finetune = request(AUTO, epochs=12), request(FINETUNE, epochs=12)
    assert made["AlgorithmSpecification"] == finetune["AlgorithmSpecification"]
    assert made["HyperParameters"] == finetune["HyperParameters"] | {"recipe": "auto"}
    assert made["ResourceConfig"] == finetune["ResourceConfig"]
    assert made["CheckpointConfig"] == finetune["CheckpointConfig"]


@pytest.mark.parametrize("instance", ["auto", "ml.c7i.4xlarge"])
def test_auto_without_a_gpu_is_a_job_of_the_small_image(instance: str) -> None:
    made = request(AUTO, training_instance_type=instance)
    probe = request(OURS, training_instance_type=instance)
    assert made["AlgorithmSpecification"] == probe["AlgorithmSpecification"]
    assert made["HyperParameters"] == probe["HyperParameters"] | {"recipe": "auto"}
    assert made["ResourceConfig"] == probe["ResourceConfig"]
    assert "CheckpointConfig" not in made


def test_auto_on_a_gpu_that_cannot_fine_tune_is_refused() -> None:
    with pytest.raises(UserError, match="recipe auto does not train on ml"):
        request(AUTO, training_instance_type="ml.p3.2xlarge")


@pytest.mark.parametrize(
    ("settings", "backbone"),
    [
        (OURS, "efficientnet-lite2"),
        (FINETUNE, "efficientnet-lite2"),
        (FINETUNE, "resnet50.a1_in1k"),
        (AUTO, "resnet50.a1_in1k"),
    ],
)
def test_the_network_is_a_choice(settings: TrainingSettings, backbone: str) -> None:
    sent = request(settings, backbone=backbone)["HyperParameters"]
    assert sent["backbone"] == backbone
    assert Hyperparameters.from_strings(sent).backbone == backbone


@pytest.mark.parametrize(
    ("settings", "backbone", "advice"),
    [
        (SETTINGS, "efficientnet-lite2", "Backbone=efficientnet-lite2 needs TrainerImage=droplens"),
        (OURS, "resnet50.a1_in1k", "Backbone=resnet50.a1_in1k needs Recipe=finetune"),
        (
            dataclasses.replace(AUTO, training_instance_type="auto"),
            "resnet50.a1_in1k",
            "Backbone=resnet50.a1_in1k needs a TrainingInstanceType with a GPU",
        ),
    ],
)
def test_a_network_that_the_training_would_not_use_is_refused(
    settings: TrainingSettings, backbone: str, advice: str
) -> None:
    with pytest.raises(UserError, match=re.escape(advice)) as told:
        request(settings, backbone=backbone)
    assert told.value.code == "training.backbone"


def test_networks_and_recipes_have_the_names_that_the_trainer_has() -> None:
    assert tuple(PACKAGED) == choices.PACKAGED_BACKBONES
    assert {choices.PROBE, choices.FINETUNE, choices.AUTO} == set(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
@given(
    epochs=st.integers(1, 1000),
    batch=st.integers(1, 1024),
    rate=st.floats(0, 1),
    size=st.integers(96, 512),
)
def test_our_own_trainer_takes_every_hyperparameter_and_has_a_use_for_it(
    recipe: str, epochs: int, batch: int, rate: float, size: int
) -> None:
    settings = dataclasses.replace(OURS, recipe=recipe)
    made = request(
        settings, epochs=epochs, mini_batch_size=batch, learning_rate=rate, image_size=size
    )
    taken = Hyperparameters.from_strings(made["HyperParameters"])
    assert taken.recipe == recipe
    assert taken.without_effect() == ()
    assert (taken.num_classes, taken.num_training_samples) == (3, 646)
    assert taken.image_shape == (size, size)
    if recipe == "finetune":
        assert taken.epochs == epochs
        assert taken.learning_rate == (
            rate
            or Hyperparameters.from_strings(
                {"num_classes": "3", "num_training_samples": "1", "recipe": recipe}
            ).learning_rate
        )


@EVERY
@pytest.mark.parametrize("use_spot", [True, False])
def test_boto3_would_send_it(settings: TrainingSettings, use_spot: bool) -> None:
    made = request(settings, use_spot=use_spot)
    check_request("sagemaker", "CreateTrainingJob", made)
    assert made["ResourceConfig"]["InstanceType"] in INSTANCES


def test_our_own_containers_reach_no_network_in_training() -> None:
    """The built-in one may fetch its pretrained network from S3 itself."""
    isolated = {name: request(settings)["EnableNetworkIsolation"] for name, settings in ALL.items()}
    assert isolated == {"builtin": False, "probe": True, "finetune": True, "auto": True}


@pytest.mark.parametrize("recipe", RECIPES)
def test_either_recipe_s_model_is_served_by_the_image_without_pytorch(recipe: str) -> None:
    settings = dataclasses.replace(OURS, recipe=recipe)
    assert training.serving_image(settings) == OURS.trainer_image_uri


def test_the_built_in_algorithm_serves_what_it_trained() -> None:
    trained_by = request()["AlgorithmSpecification"]["TrainingImage"]
    assert training.serving_image(SETTINGS) == trained_by


@EVERY
def test_the_job_carries_its_run(settings: TrainingSettings) -> None:
    assert {tag["Key"]: tag["Value"] for tag in request(settings)["Tags"]} == {
        "droplens:classifier": "cars",
        "droplens:run": RUN.run_id,
    }


@EVERY
@pytest.mark.parametrize("minutes", [5, 240, 7200])
def test_waiting_for_spot_may_last_longer_than_training(
    settings: TrainingSettings, minutes: int
) -> None:
    made = request(settings, max_training_minutes=minutes)
    stopping = made["StoppingCondition"]
    assert stopping["MaxRuntimeInSeconds"] == 60 * minutes
    assert stopping["MaxWaitTimeInSeconds"] > stopping["MaxRuntimeInSeconds"]
    assert made["EnableManagedSpotTraining"] is True


@pytest.mark.parametrize("name", ["builtin", "finetune"])
def test_what_trains_in_steps_keeps_checkpoints_below_its_run_s_prefix(name: str) -> None:
    made = request(ALL[name])
    assert made["CheckpointConfig"] == {
        "S3Uri": f"{made['OutputDataConfig']['S3OutputPath']}checkpoints/",
        "LocalPath": str(Folders.from_environment({}).checkpoints),
    }


def test_probe_is_begun_anew_where_spot_capacity_is_taken_back() -> None:
    assert "CheckpointConfig" not in request(OURS)


@EVERY
def test_without_spot_there_is_no_waiting_time(settings: TrainingSettings) -> None:
    made = request(settings, use_spot=False)
    assert "MaxWaitTimeInSeconds" not in made["StoppingCondition"]
    assert "CheckpointConfig" not in made
    assert "EnableManagedSpotTraining" not in made


def test_sagemaker_refuses_metric_definitions_for_its_own_algorithm() -> None:
    assert "MetricDefinitions" not in request()["AlgorithmSpecification"]


def test_in_china_images_have_another_suffix() -> None:
    made = request(aws_region="cn-north-1", url_suffix="amazonaws.com.cn")
    assert made["AlgorithmSpecification"]["TrainingImage"] == (
        "390948362332.dkr.ecr.cn-north-1.amazonaws.com.cn/image-classification:1"
    )


def test_an_endpoint_that_the_region_cannot_have_is_told_before_the_training_is_paid_for() -> None:
    with pytest.raises(UserError, match="EndpointMode=realtime"):
        request(OURS, aws_region="cn-north-1", endpoint_mode="serverless")


def test_auto_takes_what_the_region_offers() -> None:
    made = request(FINETUNE, aws_region="us-gov-west-1")
    assert made["ResourceConfig"]["InstanceType"] == "ml.g6.xlarge"


@pytest.mark.parametrize("region", sorted(training.builtin_accounts()))
def test_every_region_of_the_list_gives_an_image(region: str) -> None:
    made = request(aws_region=region, training_instance_type="ml.g5.xlarge")
    image = made["AlgorithmSpecification"]["TrainingImage"]
    assert re.fullmatch(
        r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com/image-classification:1", image
    )


@pytest.mark.parametrize("instance", INSTANCES)
def test_finetune_trains_on_gpus_that_its_cuda_knows_and_on_nothing_else(instance: str) -> None:
    """P6e's processors are ARM's: that type the template refuses."""
    family = instance.split(".")[1]
    known = family in {
        *("g4dn", "g5", "g6", "g6e", "g7", "g7e"),
        *("p4d", "p4de", "p5", "p5e", "p5en", "p6-b200", "p6-b300", "p6e-gb200"),
    }
    if known:
        made = request(FINETUNE, training_instance_type=instance)
        assert made["ResourceConfig"]["InstanceType"] == instance
    else:
        with pytest.raises(UserError, match="Recipe=probe") as told:
            request(FINETUNE, training_instance_type=instance)
        assert told.value.code == "training.instance"


@pytest.mark.parametrize("instance", ["ml.m5.xlarge", "ml.c7i.4xlarge", "ml.g5.xlarge"])
def test_probe_trains_on_what_it_is_given(instance: str) -> None:
    made = request(OURS, training_instance_type=instance)
    assert made["ResourceConfig"]["InstanceType"] == instance


@pytest.mark.parametrize("settings", [FINETUNE, SETTINGS], ids=["finetune", "builtin"])
def test_several_instances_train_together(settings: TrainingSettings) -> None:
    made = request(settings, training_instance_count=3)
    assert made["ResourceConfig"]["InstanceCount"] == 3
    # The built-in algorithm must be told how to synchronise.
    synchronised = made["HyperParameters"].get("kv_store")
    assert synchronised == ("dist_sync" if settings is SETTINGS else None)


@pytest.mark.parametrize("recipe", [choices.PROBE, choices.AUTO])
def test_instances_that_a_recipe_would_not_use_are_refused(recipe: str) -> None:
    with pytest.raises(UserError, match="TrainingInstanceCount=1") as refused:
        request(OURS, training_instance_count=2, recipe=recipe)
    assert refused.value.code == "training.instance_count"


@pytest.mark.parametrize(
    ("changes", "code", "advice"),
    [
        ({"aws_region": "eu-atlantis-1"}, "training.region", "TrainerImage=droplens"),
        ({"training_instance_type": "ml.m5.xlarge"}, "training.instance", "p2, p3, g4dn or g5"),
        ({"training_instance_type": "ml.g5g.xlarge"}, "training.instance", "p2, p3, g4dn or g5"),
        ({"image_size": 288}, "training.image_size", "224 pixels"),
    ],
)
def test_what_the_built_in_algorithm_cannot_do_is_told_with_advice(
    changes: dict[str, Any], code: str, advice: str
) -> None:
    with pytest.raises(UserError, match=re.escape(advice)) as told:
        request(**changes)
    assert told.value.code == code


# The names and ranges that the algorithm documents; an unknown name makes its job fail.
RANGES: dict[str, Any] = {
    "num_classes": lambda text: int(text) >= 2,
    "num_training_samples": lambda text: int(text) >= 1,
    "image_shape": lambda text: text == "3,224,224",
    "mini_batch_size": lambda text: int(text) >= 1,
    "num_layers": lambda text: text in {"18", "34", "50", "101", "152", "200"},
    "use_pretrained_model": lambda text: text in {"0", "1"},
    "epochs": lambda text: int(text) >= 1,
    "optimizer": lambda text: text in {"sgd", "adam", "rmsprop", "nag"},
    "learning_rate": lambda text: 0 <= float(text) <= 1,
    "lr_scheduler_factor": lambda text: 0 <= float(text) <= 1,
    "augmentation_type": lambda text: text in {"crop", "crop_color", "crop_color_transform"},
    "early_stopping": lambda text: text in {"True", "False"},
}


@given(
    epochs=st.integers(1, 1000),
    batch=st.integers(1, 1024),
    rate=st.floats(0.000001, 1),
    train=st.integers(1, 10**7),
    classes=st.integers(2, 1000),
)
def test_the_built_in_algorithm_knows_every_hyperparameter_and_its_range(
    epochs: int, batch: int, rate: float, train: int, classes: int
) -> None:
    names = tuple(map(str, range(classes)))
    dataset = dataclasses.replace(DATASET, classes=names, train=train)
    sent = request(dataset=dataset, epochs=epochs, mini_batch_size=batch, learning_rate=rate)[
        "HyperParameters"
    ]
    steps = [int(step) for step in sent.pop("lr_scheduler_step").split(",")]
    assert steps == sorted(set(steps))
    assert 1 <= steps[0] <= steps[-1] <= epochs
    assert sent.keys() == RANGES.keys()
    assert all(RANGES[name](text) for name, text in sent.items()), sent
    assert int(sent["mini_batch_size"]) <= train


@pytest.mark.parametrize(
    "settings",
    [
        dataclasses.replace(OURS, recipe="probe"),
        dataclasses.replace(SETTINGS, training_instance_type="ml.p3.2xlarge"),
    ],
)
@given(size=st.integers(0, 10**12))
def test_the_volume_holds_the_dataset(settings: TrainingSettings, size: int) -> None:
    made = request(settings, dataclasses.replace(DATASET, bytes=size))
    assert made["ResourceConfig"]["VolumeSizeInGB"] * 2**30 > 2 * size


@pytest.mark.parametrize("settings", [FINETUNE, SETTINGS])
@given(size=st.integers(0, 10**12))
def test_no_volume_is_asked_for_where_the_instance_has_its_own_disks(
    settings: TrainingSettings, size: int
) -> None:
    """One larger than the account's quota of volumes would be refused."""
    made = request(settings, dataclasses.replace(DATASET, bytes=size))
    assert made["ResourceConfig"]["VolumeSizeInGB"] == 30


def test_spot_capacity_is_waited_for_in_what_the_training_leaves_of_its_time() -> None:
    stopping = request(SETTINGS, use_spot=True, max_training_minutes=60)["StoppingCondition"]
    assert stopping == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200}


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        (
            "[09/07/2019 22:57:58 INFO 140434042] Epoch[0] Train-accuracy=0.375000",
            "train:accuracy",
            "0.375000",
        ),
        ("Epoch[0] Validation-accuracy=0.771429", "validation:accuracy", "0.771429"),
        ("Epoch[12] Validation-accuracy=1.0", "validation:accuracy", "1.0"),
    ],
)
def test_metrics_are_found_in_the_log_lines(line: str, name: str, value: str) -> None:
    found = {
        metric["Name"]: match[1]
        for metric in training.METRICS
        if (match := re.search(metric["Regex"], line))
    }
    assert found == {name: value}


def packed(cloud: Cloud) -> PackingEnded:
    cloud.runs().open(RUN, {"version": "v1"})
    return PackingEnded(RUN, "job-0", "", 0, "all")


def start(
    cloud: Cloud, event: PackingEnded, owner: str = "request-1", **changes: Any
) -> str | None:
    settings = dataclasses.replace(OURS, **changes)
    step = training.Training(bucket=cloud.bucket, sagemaker=cloud.sagemaker, settings=settings)
    return step.start(event, cloud.invocation(owner))


def known(cloud: Cloud) -> Run:
    run = cloud.runs().get(RUN)
    assert run is not None
    return run


def test_a_packed_dataset_is_trained_on_what_was_really_packed(cloud: Cloud) -> None:
    pack(cloud)
    assert start(cloud, packed(cloud)) == NAME
    sent = cloud.sagemaker.jobs[NAME]["HyperParameters"]
    assert (sent["num_classes"], sent["num_training_samples"]) == ("2", "20")
    assert sent["mini_batch_size"] == "20"
    run = known(cloud)
    assert run.status is Status.TRAINING
    assert run.record["training_job"] == NAME
    assert run.record["trainer"] == "droplens"
    assert run.record["image"] == OURS.trainer_image_uri
    assert run.record["counts"] == {"train": 20, "validation": 12}
    assert "dataset_warnings" not in run.record


def test_test_pictures_are_counted_and_not_trained_on(cloud: Cloud) -> None:
    pack(cloud)
    key = f"packed/cars/{RUN.run_id}/dataset.json"
    manifest = json.loads(cloud.bucket.read(key)[0])
    manifest["counts"]["test"] = 7
    manifest["bytes"]["test/test.rec"] = 900 * 2**30
    manifest["warnings"] = [f"{n}: {'x' * 999}" for n in range(9)]
    cloud.put(key, json.dumps(manifest).encode())
    assert start(cloud, packed(cloud)) == NAME
    job = cloud.sagemaker.jobs[NAME]
    assert [channel["ChannelName"] for channel in job["InputDataConfig"]][:2] == [
        "train",
        "validation",
    ]
    assert "test/" not in json.dumps(job["InputDataConfig"])
    assert job["ResourceConfig"]["VolumeSizeInGB"] < 100
    run = known(cloud)
    assert run.record["counts"] == {"train": 20, "validation": 12, "test": 7}
    told = run.record["dataset_warnings"]
    assert [warning[0] for warning in told] == ["0", "1", "2", "3", "4"]
    assert all(len(warning) == 300 for warning in told)


def test_a_repeated_event_creates_no_second_job(cloud: Cloud) -> None:
    pack(cloud)
    event = packed(cloud)
    assert [start(cloud, event, f"request-{n}") for n in range(3)] == [NAME, None, None]
    assert cloud.sagemaker.calls.count("CreateTrainingJob") == 1


def test_training_waits_for_the_end_of_the_whole_packing(cloud: Cloud) -> None:
    pack(cloud)
    event = packed(cloud)
    assert start(cloud, dataclasses.replace(event, step="pack", child=0)) is None
    assert start(cloud, dataclasses.replace(event, step="pack", waited_for="job-0")) is None
    assert known(cloud).status is Status.PACKING
    assert start(cloud, dataclasses.replace(event, step="join", waited_for="job-0")) == NAME


def test_a_retry_that_meets_the_run_s_own_job_goes_on(cloud: Cloud) -> None:
    pack(cloud)
    event = packed(cloud)
    with crash_in(Runs, "finish"):
        start(cloud, event)
    # The job's events may come now: what the next steps need is there.
    assert known(cloud).record["trainer"] == "droplens"
    assert known(cloud).record["image_size"] == 288
    assert start(cloud, event) == NAME
    assert known(cloud).record["training_job"] == NAME
    assert cloud.notices() == []


def test_what_sagemaker_refuses_ends_the_run_with_its_words(cloud: Cloud) -> None:
    pack(cloud)
    cloud.sagemaker.failing["CreateTrainingJob"] = "ValidationException"
    assert start(cloud, packed(cloud)) is None
    assert known(cloud).status is Status.FAILED
    assert known(cloud).record["error"]["code"] == "training.refused"
    assert "ValidationException" in cloud.notices()[0]["message"]


def test_a_throttle_is_left_to_lambda_s_retries_which_find_the_stage_free(cloud: Cloud) -> None:
    pack(cloud)
    cloud.sagemaker.failing["CreateTrainingJob"] = "ThrottlingException"
    with pytest.raises(Exception, match="ThrottlingException"):
        start(cloud, packed(cloud))
    assert known(cloud).status is Status.TRAINING
    assert cloud.runs("another request").claim(RUN, Stage.TRAIN)


def test_settings_that_cannot_work_end_the_run_before_any_job(cloud: Cloud) -> None:
    pack(cloud)
    assert start(cloud, packed(cloud), trainer_image="builtin") is None
    assert known(cloud).record["error"]["code"] == "training.image_size"
    assert cloud.sagemaker.jobs == {}
    assert len(cloud.notices()) == 1


def test_an_unfinished_packing_is_told(cloud: Cloud) -> None:
    start(cloud, packed(cloud))
    assert known(cloud).record["error"]["code"] == "packed.incomplete"


def test_an_end_that_went_untold_is_told_by_the_retry(cloud: Cloud) -> None:
    event = packed(cloud)
    with crash_in(Failures, "publish"):
        start(cloud, event)
    assert known(cloud).status is Status.FAILED
    for _ in range(2):
        assert start(cloud, event) is None
    assert len(cloud.notices()) == 1


def test_the_manifest_counts_both_record_files(cloud: Cloud) -> None:
    pack(cloud)
    prefix = f"packed/cars/{RUN.run_id}/"
    manifest = json.loads(cloud.bucket.read(f"{prefix}dataset.json")[0])
    dataset = read_packed(cloud.bucket, RUN)
    assert dataset.bytes == sum(manifest["bytes"].values()) > 0
    assert dataset.prefix == prefix
