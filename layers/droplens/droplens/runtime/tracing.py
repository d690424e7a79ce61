"""The X-Ray tracer of the functions.

Apart from telemetry because the X-Ray SDK would make the cold start of classify_image half as long
again; that function has Lambda's own segments only.
"""

from aws_lambda_powertools import Tracer

from droplens.runtime.telemetry import SERVICE, annotators

tracer = Tracer(service=SERVICE)
# Makes traces searchable by run: annotation.run_id = "...".
annotators.append(tracer.put_annotation)
