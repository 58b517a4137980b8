"""Measures the channel of a run and writes the page into its folder."""

from hcl_tf.evaluation.scoring import EvaluationRequest
from hcl_tf.progress import working
from hcl_tf.studies.channel import page
from hcl_tf.studies.channel.meter import MeterRequest, measure
from hcl_tf.training.trained_run import TrainedRun


def publish(trained: TrainedRun, request: MeterRequest) -> None:
    """Writes channel.<label>.json and .md, labelled as evaluation's results are, and prints the page's lines. Errors as of `measure`."""
    trained.run.check_writable()
    with working("measuring the channel"):
        found = measure(trained, request)
    label = EvaluationRequest(trained.path, request.split, trained.checkpoint, limit=request.limit).label
    trained.run.write_json(f"channel.{label}.json", found)
    path = trained.run.write_text(f"channel.{label}.md", page.page(found))
    print("\n".join(page.lines(found)))
    print(f"wrote {path}")
