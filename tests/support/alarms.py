"""The template's alarms, in its order, and the metrics of our own that they watch."""

ALARMS = [
    "PicturesGivenUp",
    "EventsGivenUp",
    "PicturesWaitLong",
    "PicturesKeepFailing",
    "PicturesMostlyRejected",
    "PicturesStranded",
    "RunsFail",
    "PicturesUnfamiliar",
    "LiveAccuracyLow",
    "EndpointErrors",
    "EndpointSlow",
    "ClassifyingBreaksOff",
    "TrainingTakesLong",
    "ReportsFail",
]


# Droplens' own metrics, by what counts them: tests/infrastructure/test_runbook.py.
COUNTED = {
    "PicturePostponed",
    "PictureRejected",
    "PictureStranded",
    "PictureUnfamiliar",
    "UnfamiliarExpected",
    "LiveAccuracyShortfall",
    "RunFailed",
    "EndpointError",
    "EndpointLatency",
    "TrainingTimeUsed",
    "ReportFailed",
}
