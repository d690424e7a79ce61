"""The tracer, made once. It stands apart from telemetry since it brings the X-Ray SDK, which alone
would add half to the cold start of classify_image: there, Lambda's own segments have to do.
"""

from aws_lambda_powertools import Tracer

from droplens.runtime.telemetry import SERVICE, followers

tracer = Tracer(service=SERVICE)
# X-Ray finds the traces of a run by it: annotation.run_id = "...".
followers.append(tracer.put_annotation)
